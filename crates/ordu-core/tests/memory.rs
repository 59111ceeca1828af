//! What a waiting request takes of memory beside its prompt, counted byte by byte. A program of its
//! own: nothing else may run beside it.
#![expect(clippy::unwrap_used, reason = "tests may panic")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use ordu_api::{RequestId, UserId};
use ordu_core::horde::{Address, Horde, Policy, Request, Requester, Stored, Work};
use ordu_core::image::ImageSpec;
use ordu_core::model_reference::ModelReference;
use ordu_core::text::TextSpec;
use ordu_core::{Kudos, Roles, Timestamp};
use uuid::Uuid;

/// Counts what is handed out, as an allocator hands it out: in steps of 16, with 8 for itself.
struct Counting;

static LIVE: AtomicUsize = AtomicUsize::new(0);

fn taken(bytes: usize) -> usize {
    (bytes + 8).next_multiple_of(16).max(32)
}

#[expect(unsafe_code, reason = "an allocator is one")]
// SAFETY: all is handed on to the system's.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: as was promised to us.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        LIVE.fetch_sub(taken(layout.size()), Ordering::Relaxed);
        // SAFETY: as was promised to us.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// One at a time.
static TURN: Mutex<()> = Mutex::new(());

const PROMPT_BYTES: usize = 200;
const WAITING: u32 = 20_000;
const NOW: Timestamp = Timestamp(1_000_000);

fn prompt(number: u32) -> String {
    format!("{number:0PROMPT_BYTES$}")
}

fn picture(number: u32) -> Work {
    Work::Image(Arc::new(ImageSpec {
        prompt: prompt(number),
        models: vec![format!("far away {}", number % 200)],
        width: 512 + number / 200 % 8 * 64,
        ..ImageSpec::default()
    }))
}

fn text(number: u32) -> Work {
    Work::Text(Arc::new(TextSpec {
        prompt: prompt(number),
        models: vec![format!("far away {}", number % 200)],
        ..TextSpec::default()
    }))
}

/// Scattered, as ids and priorities are.
fn scattered(number: u32) -> u32 {
    number.wrapping_mul(2_654_435_761)
}

/// Bytes of each request beside its prompt that waits after a start.
fn bytes_each(work: fn(u32) -> Work) -> usize {
    let reference = Arc::new(ModelReference::default());
    let before = LIVE.load(Ordering::Relaxed);
    let mut horde = Horde::new(reference, Policy::default());
    for number in 0..WAITING {
        let id = Uuid::from_u128(u128::from(scattered(number)) << 96);
        let request = Request {
            id: RequestId::from_uuid(id),
            requester: Requester {
                user: UserId::new(i64::from(number % 50) + 10).unwrap(),
                roles: Roles::NONE,
                available: Kudos::new(100),
                address: Address::Safe,
            },
            work: work(number),
            priority: Kudos::new(i64::from(scattered(number) % 10_000)),
            created: NOW,
            twin: None,
        };
        // As it comes back from what is stored.
        let stored = serde_json::to_string(&request).unwrap();
        drop(request);
        horde.restore(Stored {
            request: serde_json::from_str(&stored).unwrap(),
            open: 1,
            asked: 1,
            kudos: Kudos::ZERO,
            expires: NOW,
            faulted: false,
            jobs: Vec::new(),
        });
        horde.take_changes();
    }
    let bytes = LIVE.load(Ordering::Relaxed) - before;
    assert_eq!(horde.open_requests().count(), WAITING as usize);
    bytes / WAITING as usize - PROMPT_BYTES
}

#[test]
fn a_waiting_picture_takes_little_more_than_its_prompt() {
    let _turn = TURN.lock().unwrap();
    let each = bytes_each(picture);
    assert!(each <= 1_300, "{each} bytes");
    assert!(each >= 300, "{each} bytes: not all was counted");
}

#[test]
fn a_waiting_text_takes_little_more_than_its_prompt() {
    let _turn = TURN.lock().unwrap();
    let each = bytes_each(text);
    assert!(each <= 1_300, "{each} bytes");
    assert!(each >= 300, "{each} bytes: not all was counted");
}
