//! What the networks take of memory beside their weights, counted byte by byte. A program of its own:
//! nothing else may run beside it.
#![expect(clippy::unwrap_used, reason = "tests may panic")]
#![expect(clippy::doc_markdown, reason = "UNet and its like are names in prose")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::{DType, Device, Tensor};
use ordu_engine::Compute;
use ordu_engine::native::ops::{self, Edges};
use ordu_engine::native::sd::Condition;
use ordu_engine::native::sd::unet::UNet;
use ordu_engine::native::sd::vae::Vae;
use ordu_engine::native::weights::Weights;
use rayon::ThreadPoolBuilder;

/// Counts what is handed out.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

fn grown(bytes: usize) {
    let live = LIVE.fetch_add(bytes, Ordering::Relaxed) + bytes;
    PEAK.fetch_max(live, Ordering::Relaxed);
}

#[expect(unsafe_code, reason = "an allocator is one")]
// SAFETY: all is handed on to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as was promised to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        grown(layout.size());
        // SAFETY: as was promised to us.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as was promised to us.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One at a time.
static TURN: Mutex<()> = Mutex::new(());

/// Bytes beyond those that were there before, at most, with two threads.
fn peak(work: impl FnOnce() + Send) -> usize {
    let pool = ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    // Threads start, and products choose their parts.
    let one = Tensor::ones((256, 256), DType::F32, &Device::Cpu).unwrap();
    pool.install(|| one.matmul(&one).unwrap());
    let before = LIVE.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    pool.install(work);
    PEAK.load(Ordering::Relaxed) - before
}

/// Weights and 1.2 times the largest set of activations.
fn assert_within(peak: usize, set: usize) {
    let (peak, set) = (peak >> 10, (set * size_of::<f32>()) >> 10);
    assert!(10 * peak <= 12 * set, "{peak} KiB for a set of {set} KiB");
    assert!(
        peak >= set / 2,
        "{peak} KiB for a set of {set} KiB: not all was counted"
    );
}

/// Two residual blocks of a UNet's level and what is kept beside them; the numbers that must lie in
/// memory at once.
fn resnet(pixels: usize, kept: usize, (inputs, outputs): (usize, usize)) -> usize {
    let first = 2 * inputs + outputs;
    let shortcut = if inputs == outputs { 0 } else { outputs };
    let second = inputs + 2 * outputs + shortcut;
    pixels * (kept + first.max(second))
}

/// The picture, its tokens, and the widest layer with what its gate lets through.
fn transformer(pixels: usize, kept: usize, width: usize) -> usize {
    pixels * (kept + 14 * width)
}

#[test]
fn a_step_takes_little_more_than_its_largest_set_of_activations() {
    let _turn = TURN.lock().unwrap();
    let config = serde_json::from_str(
        r#"{"in_channels": 4, "out_channels": 4, "layers_per_block": 2,
            "block_out_channels": [64, 128], "cross_attention_dim": 32, "attention_head_dim": 4,
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"]}"#,
    )
    .unwrap();
    let unet = UNet::new(&Weights::made_up(), &config, &Compute::cpu()).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F32, &Device::Cpu).unwrap();
    let latents = zeros(&[2, 4, 128, 128]);
    let condition = Condition::of_text(zeros(&[2, 77, 32]));
    let peak = peak(|| {
        unet.forward(&latents, 500.0, &condition, Edges::Zero)
            .unwrap();
    });
    // Outside 2 pictures of 128×128 places, 64 wide; inside a quarter of the places, 128 wide. Kept on the
    // way down are three pictures of the outside and three of the inside, one of them 64 wide.
    let (outside, inside) = (2 * 128 * 128, 2 * 64 * 64);
    let kept_outside = 3 * 64 * outside;
    let sets = [
        // The first block of the way up outside: one that was kept is joined to what comes from inside.
        resnet(outside, 2 * 64, (128 + 64, 64)),
        // The enlargement before it: both pictures and what is kept.
        outside * (2 * 128 + 3 * 64) + inside * 128,
        kept_outside + resnet(inside, 64 + 128, (128 + 128, 128)),
        kept_outside + transformer(inside, 64 + 128, 128),
    ];
    assert_within(peak, sets.into_iter().max().unwrap());
}

#[test]
fn a_decoder_takes_little_more_than_its_largest_set_of_activations() {
    let _turn = TURN.lock().unwrap();
    let config = serde_json::from_str(
        r#"{"block_out_channels": [32, 64], "layers_per_block": 2, "latent_channels": 4,
            "mid_block_add_attention": false}"#,
    )
    .unwrap();
    let vae = Vae::new(&Weights::made_up(), &config, &Compute::cpu()).unwrap();
    let latents = Tensor::zeros((1, 4, 128, 128), DType::F32, &Device::Cpu).unwrap();
    let peak = peak(|| {
        vae.decode(&latents, Edges::Zero).unwrap();
    });
    let (inside, outside) = (128 * 128, 256 * 256);
    let sets = [outside * 2 * 64 + inside * 64, resnet(outside, 0, (64, 32))];
    assert_within(peak, sets.into_iter().max().unwrap());
}

#[test]
fn attention_never_holds_its_matrix() {
    let _turn = TURN.lock().unwrap();
    let tokens = 4096;
    let x = Tensor::zeros((1, tokens, 64), DType::F32, &Device::Cpu).unwrap();
    let peak = peak(|| {
        ops::attention(&x, &x, &x, 8, None).unwrap();
    });
    let matrix_of_one_head = tokens * tokens * size_of::<f32>();
    assert!(10 * peak < matrix_of_one_head, "{peak}");
}
