//! What a price costs to compute. Budget: 2 µs.

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use ordu_core::image::ImageSpec;
use ordu_core::pricing::image::base_price;

fn price(criterion: &mut Criterion) {
    let plain = ImageSpec::default();
    let all = ImageSpec {
        width: 1024,
        height: 1024,
        hires_fix: true,
        source_image: Some(String::new()).into(),
        source_mask: Some(String::new()).into(),
        denoising_strength: Some(0.6),
        control_type: Some("canny".to_owned()).into(),
        post_processing: ["GFPGAN", "RealESRGAN_x4plus", "strip_background"]
            .map(str::to_owned)
            .to_vec()
            .into(),
        ..ImageSpec::default()
    };
    let mut group = criterion.benchmark_group("price");
    group.bench_function("plain", |bencher| {
        bencher.iter(|| base_price(black_box(&plain)));
    });
    group.bench_function("everything", |bencher| {
        bencher.iter(|| base_price(black_box(&all)));
    });
}

criterion_group!(pricing, price);
criterion_main!(pricing);
