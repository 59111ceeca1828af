//! Measures what the networks of the built-in engine are made of, on the processor:
//! `cargo run --release -p ordu-engine --example ops`.
//!
//! One line for each operation at a size that SD 1.5 has at 512×512: milliseconds of all cores
//! together of the median of some runs, and how many thousand million multiplications and additions a
//! core second that is, counted as if nothing were saved. With `turns` it answers a line of JSON with
//! what one pass of a network took, as `training/speed/torch_speed.py turns` does.
#![expect(clippy::print_stdout, reason = "this is a program for a terminal")]
#![expect(
    clippy::cast_precision_loss,
    reason = "numbers of operations are for reading"
)]

use std::io::BufRead as _;

use candle_core::{Device, Result as Made, Tensor};
use ordu_engine::native::measure::{Family, Part, Subject};
use ordu_engine::native::noise::NoiseStream;
use ordu_engine::native::ops::{
    Conv2d, Edges, Followed, Geometry, GroupNorm, LayerNorm, Linear, attention, gated_gelu,
    to_tokens,
};
use ordu_engine::native::weights::Weights;
use ordu_engine::{Compute, NoiseSource};
use serde_json::{Value, json};

type Failure = Box<dyn std::error::Error>;

/// Runs that count.
const RUNS: usize = 5;

fn main() -> Result<(), Failure> {
    if std::env::args().nth(1).as_deref() == Some("turns") {
        return turns();
    }
    let wanted = std::env::args().nth(1).unwrap_or_default();
    for (name, operations, work) in all()? {
        if !name.starts_with(&wanted) {
            continue;
        }
        work()?;
        let mut times = Vec::new();
        for _ in 0..RUNS {
            let before = core_seconds()?;
            work()?;
            times.push(core_seconds()? - before);
        }
        times.sort_by(f64::total_cmp);
        let seconds = times.get(RUNS / 2).copied().unwrap_or(f64::NAN);
        let rate = operations / 1e9 / seconds;
        println!("{name:<40} {:>9.2} ms {rate:>7.1}", 1000.0 * seconds);
    }
    Ok(())
}

/// A name, additions and multiplications, and what is measured.
type Operation = (String, f64, Box<dyn Fn() -> Made<Tensor>>);

fn all() -> Result<Vec<Operation>, Failure> {
    let mut all = Vec::new();
    for (rows, inputs, outputs) in [
        (8192, 320, 320),
        (8192, 320, 2560),
        (8192, 1280, 320),
        (2048, 640, 640),
        (2048, 640, 5120),
        (2048, 2560, 640),
        (512, 1280, 1280),
        (512, 1280, 10240),
        (512, 5120, 1280),
        (154, 768, 768),
        (154, 3072, 768),
    ] {
        all.push(linear(rows, inputs, outputs)?);
    }
    for (inputs, outputs, side) in [
        (320, 320, 64),
        (640, 640, 32),
        (1920, 640, 32),
        (1280, 1280, 16),
        (2560, 1280, 16),
        (2560, 1280, 8),
    ] {
        all.push(convolution(
            (2, inputs, side),
            outputs,
            ("3x3", Geometry::SAME),
        )?);
    }
    all.push(convolution((1, 128, 512), 128, ("3x3", Geometry::SAME))?);
    all.push(convolution((1, 512, 64), 512, ("3x3", Geometry::SAME))?);
    all.push(convolution((2, 320, 64), 320, ("3x3/2", Geometry::HALVE))?);
    all.push(convolution((2, 640, 64), 320, ("1x1", Geometry::POINT))?);
    for (queries, keys, heads, width) in [
        (4096, 4096, 8, 40),
        (4096, 77, 8, 40),
        (1024, 1024, 8, 80),
        (256, 256, 8, 160),
    ] {
        all.push(attending((queries, keys), (heads, width))?);
    }
    all.extend(others()?);
    Ok(all)
}

fn noise(shape: [usize; 4]) -> Result<Tensor, Failure> {
    Ok(NoiseStream::new(NoiseSource::Philox, 1, shape).draw(&Device::Cpu)?)
}

fn linear(rows: usize, inputs: usize, outputs: usize) -> Result<Operation, Failure> {
    let weights = Weights::made_up();
    let compute = Compute::cpu();
    let layer = Linear::new(&weights.root(&compute), inputs, outputs)?;
    let x = noise([1, 1, rows, inputs])?.reshape((1, rows, inputs))?;
    Ok((
        format!("linear {rows} x {inputs} -> {outputs}"),
        2.0 * (rows * inputs * outputs) as f64,
        Box::new(move || layer.forward(&x)),
    ))
}

fn convolution(
    (batch, inputs, side): (usize, usize, usize),
    outputs: usize,
    (name, geometry): (&str, Geometry),
) -> Result<Operation, Failure> {
    let weights = Weights::made_up();
    let compute = Compute::cpu();
    let conv = Conv2d::new(&weights.root(&compute), inputs, outputs, geometry)?;
    let x = noise([batch, inputs, side, side])?;
    let places = (side / geometry.stride).pow(2) * batch;
    Ok((
        format!("conv {name} {inputs} -> {outputs}, {batch} of {side}x{side}"),
        2.0 * (places * inputs * outputs * geometry.kernel.pow(2)) as f64,
        Box::new(move || conv.forward(&x, Edges::Zero)),
    ))
}

fn attending(
    (queries, keys): (usize, usize),
    (heads, width): (usize, usize),
) -> Result<Operation, Failure> {
    let draw = |tokens| -> Result<Tensor, Failure> {
        Ok(noise([1, 2, tokens, heads * width])?.squeeze(0)?)
    };
    let (q, k, v) = (draw(queries)?, draw(keys)?, draw(keys)?);
    Ok((
        format!("attention {queries} to {keys}, {heads} of {width}"),
        8.0 * (queries * keys * heads * width) as f64,
        Box::new(move || attention(&q, &k, &v, heads, None)),
    ))
}

/// What multiplies next to nothing: operations are numbers here.
fn others() -> Result<Vec<Operation>, Failure> {
    let weights = Weights::made_up();
    let compute = Compute::cpu();
    let scope = weights.root(&compute);
    let picture = noise([2, 320, 64, 64])?;
    let tokens = noise([1, 2, 4096, 320])?.squeeze(0)?;
    let wide = noise([1, 2, 4096, 2560])?.squeeze(0)?;
    let group = GroupNorm::new(&scope.sub("group"), 320, 32, 1e-5)?;
    let layer = LayerNorm::new(&scope.sub("layer"), 320)?;
    let count = picture.elem_count() as f64;
    let also = picture.clone();
    Ok(vec![
        (
            "group norm, silu".to_owned(),
            count,
            Box::new(move || group.forward(&picture, Followed::BySilu)),
        ),
        (
            "layer norm".to_owned(),
            count,
            Box::new(move || layer.forward(&tokens)),
        ),
        (
            "gated gelu".to_owned(),
            4.0 * count,
            Box::new(move || gated_gelu(&wide)),
        ),
        (
            "to tokens".to_owned(),
            count,
            Box::new(move || to_tokens(&also)),
        ),
    ])
}

/// One pass for each line that comes in.
fn turns() -> Result<(), Failure> {
    let mut held: Option<(String, Subject)> = None;
    for line in std::io::stdin().lock().lines() {
        let asked: Value = serde_json::from_str(&line?)?;
        let word = |name: &str| asked.get(name).and_then(Value::as_str).unwrap_or_default();
        let number = |name: &str| asked.get(name).and_then(Value::as_u64).unwrap_or(1);
        let (family, part) = (word("family"), word("part"));
        let key = format!("{family} {part}");
        if held.as_ref().is_none_or(|(known, _)| *known != key) {
            drop(held.take());
            let (family, part): (Family, Part) = (family.parse()?, part.parse()?);
            held = Some((key, Subject::made_up(family, part, &Compute::cpu())?));
        }
        let Some((_, subject)) = &held else { continue };
        let resident = memory("VmRSS:")?;
        std::fs::write("/proc/self/clear_refs", "5")?;
        let before = core_seconds()?;
        let took = subject.pass(
            usize::try_from(number("size"))?,
            usize::try_from(number("pictures"))?,
        )?;
        println!(
            "{}",
            json!({
                "seconds": took.as_secs_f64(), "core_seconds": core_seconds()? - before,
                "resident_bytes": resident, "peak_bytes": memory("VmHWM:")? - resident,
            })
        );
    }
    Ok(())
}

/// A line of what the system tells about this program's memory, in bytes.
fn memory(field: &str) -> Result<i64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let number = line.and_then(|line| line.split_whitespace().next());
    Ok(number.ok_or("the system does not tell")?.parse::<i64>()? * 1024)
}

/// Seconds that the cores have worked for the threads of this program.
fn core_seconds() -> Result<f64, Failure> {
    let mut nanoseconds = 0.0;
    for thread in std::fs::read_dir("/proc/self/task")? {
        let worked = std::fs::read_to_string(thread?.path().join("schedstat"))?;
        let worked = worked.split_whitespace().next().unwrap_or_default();
        nanoseconds += worked.parse::<f64>()?;
    }
    Ok(nanoseconds / 1e9)
}
