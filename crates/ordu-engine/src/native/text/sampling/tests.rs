//! What filters keep, in which order, and how often.

use proptest::prelude::*;

use super::*;

fn candidates(logits: &[f64]) -> Vec<Candidate> {
    (0..)
        .zip(logits)
        .map(|(token, logit)| Candidate {
            token,
            logit: *logit,
        })
        .collect()
}

fn kept(logits: &[f64], filter: impl Fn(&mut Vec<Candidate>)) -> Vec<u32> {
    let mut found = candidates(logits);
    filter(&mut found);
    let mut tokens: Vec<u32> = found.iter().map(|candidate| candidate.token).collect();
    tokens.sort_unstable();
    tokens
}

/// Logits of these probabilities.
fn logs(shares: &[f64]) -> Vec<f64> {
    shares.iter().map(|share| share.ln()).collect()
}

#[test]
fn filters_keep_what_their_papers_say() {
    let shares = logs(&[0.4, 0.3, 0.2, 0.1]);
    assert_eq!(kept(&shares, |c| filters::top_k(c, 2)), [0, 1]);
    assert_eq!(kept(&shares, |c| filters::top_k(c, 0)), [0, 1, 2, 3]);
    assert_eq!(kept(&shares, |c| filters::top_p(c, 0.65)), [0, 1]);
    assert_eq!(kept(&shares, |c| filters::top_p(c, 0.75)), [0, 1, 2]);
    assert_eq!(kept(&shares, |c| filters::min_p(c, 0.6)), [0, 1]);
    // 0.9 times 0.4² is 0.144.
    assert_eq!(kept(&shares, |c| filters::top_a(c, 0.9)), [0, 1, 2]);
    // The expected surprise is 1.28 nats; that of 0.3 is 1.20, of 0.2 1.61, of 0.4 0.92.
    assert_eq!(kept(&shares, |c| filters::typical(c, 0.2)), [1]);
    assert_eq!(kept(&shares, |c| filters::typical(c, 0.45)), [1, 2]);
    // The curve 0.7, 0.2, 0.05, 0.03, 0.02 bends by 0.35, 0.13, 0.01.
    let steep = logs(&[0.7, 0.2, 0.05, 0.03, 0.02]);
    assert_eq!(kept(&steep, |c| filters::tail_free(c, 0.7)), [0]);
    assert_eq!(kept(&steep, |c| filters::tail_free(c, 0.95)), [0, 1]);
}

#[test]
fn the_order_matters() {
    // Cold first, one token has nearly everything; hot first, all are alike.
    let shares = logs(&[0.5, 0.3, 0.2]);
    let choose = |order: &[i64], temperature: f64| {
        let settings = Sampling {
            temperature: Some(temperature),
            top_p: Some(0.55),
            sampler_order: Some(order.to_vec()),
            ..Sampling::default()
        };
        let chooser = Chooser::new(&settings, 1);
        let mut left = candidates(&shares);
        for stage in &chooser.stages {
            chooser.apply(*stage, &mut left, &[]);
        }
        left.len()
    };
    assert_eq!(choose(&[6, 5, 2], 0.1), 1);
    assert_eq!(choose(&[6, 2, 5], 0.1), 2);
    assert_eq!(choose(&[6, 5, 2], 100.0), 2);
    // What is not named is not done.
    assert_eq!(choose(&[6, 5], 0.1), 3);
}

#[test]
fn orders_are_read_leniently() {
    use Stage::{Repetition, Temperature, TopK};
    assert_eq!(stages(None), stages(Some(&USUAL_ORDER)));
    assert_eq!(stages(Some(&[])), stages(None));
    assert_eq!(
        stages(Some(&[5, 0, 5, 99, -1])),
        [Repetition, Temperature, TopK]
    );
}

#[test]
fn repetition_is_punished_within_its_range() {
    let punished = |settings: Sampling, written: &[u32]| -> Vec<f64> {
        let mut found = candidates(&[2.0, -2.0, 2.0]);
        Penalty::new(&settings).apply(&mut found, written);
        found.iter().map(|candidate| candidate.logit).collect()
    };
    let settings = Sampling {
        rep_pen: Some(2.0),
        ..Sampling::default()
    };
    assert_eq!(punished(settings.clone(), &[0, 1]), [1.0, -4.0, 2.0]);
    let short = Sampling {
        rep_pen_range: Some(1),
        ..settings.clone()
    };
    assert_eq!(punished(short, &[0, 1]), [2.0, -4.0, 2.0]);
    // The oldest is not punished, the newest wholly, the one between by half.
    let sloped = Sampling {
        rep_pen_range: Some(3),
        rep_pen_slope: Some(1.0),
        ..settings
    };
    assert_eq!(punished(sloped, &[0, 1, 2]), [2.0, -3.0, 1.0]);
}

#[test]
fn heat_follows_how_uncertain_the_model_is() {
    let spread = |logits: &[f64]| {
        let settings = Sampling {
            temperature: Some(1.0),
            dynatemp_range: Some(0.5),
            ..Sampling::default()
        };
        let mut found = candidates(logits);
        heat::apply(&mut found, &settings);
        (found[0].logit - found[1].logit) / (logits[0] - logits[1])
    };
    // All alike: the highest temperature. One of them certain: the lowest.
    assert!((spread(&[0.001, 0.0, 0.0]) - 1.0 / 1.5).abs() < 1e-3);
    assert!((spread(&[50.0, 0.0, 0.0]) - 1.0 / 0.5).abs() < 1e-3);
    let smoothed = Sampling {
        smoothing_factor: Some(0.5),
        ..Sampling::default()
    };
    let mut found = candidates(&[3.0, 1.0]);
    heat::apply(&mut found, &smoothed);
    assert_eq!((found[0].logit, found[1].logit), (3.0, 1.0));
}

#[test]
fn tokens_come_as_often_as_their_probability_says() {
    let logits: Vec<f32> = [0.6_f32, 0.3, 0.1].iter().map(|share| share.ln()).collect();
    let mut chooser = Chooser::new(&Sampling::default(), 7);
    let mut counts = [0_u32; 3];
    for _ in 0..10_000 {
        let token = chooser.choose(&logits, &[], &[]).unwrap();
        counts[usize::try_from(token).unwrap()] += 1;
    }
    for (count, expected) in counts.iter().zip([6000_u32, 3000, 1000]) {
        assert!(count.abs_diff(expected) < 200, "{counts:?}");
    }
}

#[test]
fn cold_takes_the_likeliest_and_the_banned_never() {
    let cold = Sampling {
        temperature: Some(0.0),
        ..Sampling::default()
    };
    let mut chooser = Chooser::new(&cold, 0);
    assert_eq!(chooser.choose(&[1.0, 3.0, 2.0], &[], &[]), Some(1));
    assert_eq!(chooser.choose(&[1.0, 3.0, 2.0], &[], &[1]), Some(2));
    assert_eq!(chooser.choose(&[f32::NAN, 0.0], &[], &[]), Some(1));
    assert_eq!(chooser.choose(&[f32::NAN], &[], &[]), None);
}

fn any_logits() -> impl Strategy<Value = Vec<f64>> {
    proptest::collection::vec(-30.0..30.0, 1..40)
}

proptest! {
    #[test]
    fn probabilities_sum_to_one(logits in any_logits()) {
        let all: f64 = probabilities(&candidates(&logits)).iter().sum();
        prop_assert!((all - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_wider_filter_keeps_all_that_a_narrower_one_keeps(logits in any_logits(), one in 0.0..1.0, other in 0.0..1.0) {
        let (narrow, wide) = if one < other { (one, other) } else { (other, one) };
        let within = |small: Vec<u32>, large: &[u32]| small.iter().all(|token| large.contains(token));
        for filter in [filters::top_p, filters::tail_free, filters::typical] {
            let large = kept(&logits, |c| filter(c, wide));
            prop_assert!(within(kept(&logits, |c| filter(c, narrow)), &large));
            prop_assert!(!large.is_empty());
        }
        for filter in [filters::top_a, filters::min_p] {
            let large = kept(&logits, |c| filter(c, narrow));
            prop_assert!(within(kept(&logits, |c| filter(c, wide)), &large));
            prop_assert!(!large.is_empty());
        }
        prop_assert!(within(kept(&logits, |c| filters::top_k(c, 2)), &kept(&logits, |c| filters::top_k(c, 5))));
    }

    #[test]
    fn heat_makes_the_likeliest_less_likely(logits in any_logits(), one in 0.1..5.0, other in 0.1..5.0) {
        let most = |temperature: f64| {
            let mut found = candidates(&logits);
            heat::apply(&mut found, &Sampling { temperature: Some(temperature), ..Sampling::default() });
            probabilities(&found).into_iter().fold(0.0, f64::max)
        };
        let (cold, hot) = if one < other { (one, other) } else { (other, one) };
        prop_assert!(most(cold) >= most(hot) - 1e-9);
    }

    #[test]
    fn the_same_seed_chooses_the_same(logits in proptest::collection::vec(-5.0_f32..5.0, 1..40), seed in any::<u64>()) {
        let choose = || Chooser::new(&Sampling::default(), seed).choose(&logits, &[], &[]);
        prop_assert_eq!(choose(), choose());
        prop_assert!(choose().is_some());
    }

    #[test]
    fn no_setting_panics_or_leaves_nothing(
        logits in proptest::collection::vec(any::<f32>(), 1..20),
        numbers in proptest::collection::vec(any::<f64>(), 11),
        order in proptest::option::of(proptest::collection::vec(-2_i64..9, 0..9)),
        whole in any::<[u32; 2]>(),
        written in proptest::collection::vec(0_u32..20, 0..30),
    ) {
        let number = |place: usize| Some(numbers[place]);
        let settings = Sampling {
            rep_pen: number(0), rep_pen_slope: number(1), temperature: number(2), tfs: number(3),
            top_a: number(4), top_p: number(5), typical: number(6), min_p: number(7),
            smoothing_factor: number(8), dynatemp_range: number(9), dynatemp_exponent: number(10),
            rep_pen_range: Some(whole[0]), top_k: Some(whole[1]), sampler_order: order, use_default_badwordsids: None,
        };
        let any_finite = logits.iter().any(|logit| logit.is_finite());
        let chosen = Chooser::new(&settings, 3).choose(&logits, &written, &[]);
        prop_assert_eq!(chosen.is_some(), any_finite);
    }
}
