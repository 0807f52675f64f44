//! The buckets on a clock of their own: nothing here sleeps.

use std::time::{Duration, Instant};

use super::*;

fn secs(seconds: f64) -> Duration {
    Duration::from_secs_f64(seconds)
}

/// Takes as many as there are now.
fn drain(buckets: &mut Buckets, class: Class, now: Instant) -> u32 {
    let mut taken = 0;
    while buckets.take(class, now).is_ok() {
        taken += 1;
    }
    taken
}

#[test]
fn each_class_has_its_burst_and_refills_at_its_rate() {
    let start = Instant::now();
    for (class, burst, in_ten_seconds) in [
        (Class::ElbDescribe, 30, 30),
        (Class::ElbTargets, 20, 20),
        (Class::ElbModify, 20, 20),
        (Class::ElbWrite, 10, 10),
        (Class::Ec2Describe, 50, 50),
        (Class::Ec2Write, 10, 10),
        (Class::Verify, 5, 5),
    ] {
        let mut buckets = Buckets::new(&Limits::default(), start);
        assert_eq!(drain(&mut buckets, class, start), burst, "{class:?}");
        let later = start + secs(10.0);
        assert_eq!(
            drain(&mut buckets, class, later),
            in_ten_seconds,
            "{class:?}"
        );
    }
    let mut buckets = Buckets::new(&Limits::default(), start);
    drain(&mut buckets, Class::ElbTargets, start);
    assert_eq!(drain(&mut buckets, Class::ElbTargets, start + secs(1.0)), 4);
}

#[test]
fn an_empty_bucket_says_when_to_ask_again_and_keeps_its_word() {
    let start = Instant::now();
    let mut buckets = Buckets::new(&Limits::default(), start);
    drain(&mut buckets, Class::Ec2Write, start);
    let after = buckets.take(Class::Ec2Write, start).unwrap_err();
    assert!(after <= secs(0.501), "{after:?}");
    assert!(buckets.take(Class::Ec2Write, start + after / 2).is_err());
    assert!(
        buckets
            .take(Class::Ec2Write, start + after + secs(0.001))
            .is_ok()
    );
}

#[test]
fn a_throttling_answer_halves_that_service_and_leaves_the_other_alone() {
    let start = Instant::now();
    let mut buckets = Buckets::new(&Limits::default(), start);
    buckets.throttled(Service::Elb, start, start, 0.0);
    assert!((buckets.share(Service::Elb, start) - 0.5).abs() < 1e-9);
    assert!((buckets.share(Service::Ec2, start) - 1.0).abs() < 1e-9);
    for class in [
        Class::ElbDescribe,
        Class::ElbTargets,
        Class::ElbModify,
        Class::ElbWrite,
    ] {
        assert_eq!(buckets.take(class, start), Err(PAUSE_MIN), "{class:?}");
    }
    assert_eq!(buckets.take(Class::Ec2Describe, start), Ok(()));
    assert_eq!(buckets.take(Class::Verify, start), Ok(()));
    // The burst is gone: one token, and half of eight a second.
    assert!(drain(&mut buckets, Class::ElbDescribe, start + secs(1.0)) <= 5);
}

#[test]
fn workers_refused_together_count_once() {
    let start = Instant::now();
    let mut buckets = Buckets::new(&Limits::default(), start);
    let answered = start + secs(0.1);
    for _ in 0..10 {
        buckets.throttled(Service::Elb, start, answered, 0.0);
    }
    assert!((buckets.share(Service::Elb, answered) - 0.5).abs() < 1e-9);
}

#[test]
fn pauses_double_to_half_a_minute_and_rates_stop_at_the_floor() {
    let start = Instant::now();
    let mut buckets = Buckets::new(&Limits::default(), start);
    let mut now = start;
    let mut pauses = Vec::new();
    for _ in 0..12 {
        buckets.throttled(Service::Ec2, now, now, 0.0);
        let pause = buckets.take(Class::Ec2Describe, now).unwrap_err();
        pauses.push(pause.as_secs_f64());
        now += pause;
    }
    assert_eq!(pauses.get(..4), Some([0.5, 1.0, 2.0, 4.0].as_slice()));
    assert!(pauses.iter().all(|pause| (0.5..=30.0).contains(pause)));
    assert_eq!(pauses.last(), Some(&30.0));
    for _ in 0..12 {
        buckets.throttled(Service::Ec2, now, now, 0.0);
    }
    assert!((buckets.share(Service::Ec2, now) - FLOOR).abs() < 1e-9);
}

#[test]
fn jitter_only_makes_a_pause_longer() {
    let start = Instant::now();
    for jitter in [0.0, 0.3, 0.999, 7.0, -3.0] {
        let mut buckets = Buckets::new(&Limits::default(), start);
        buckets.throttled(Service::Elb, start, start, jitter);
        let pause = buckets.take(Class::ElbWrite, start).unwrap_err();
        assert!((PAUSE_MIN..=PAUSE_MIN * 2).contains(&pause), "{pause:?}");
    }
}

#[test]
fn rates_come_back_slowly_and_fully() {
    let start = Instant::now();
    let mut buckets = Buckets::new(&Limits::default(), start);
    buckets.throttled(Service::Elb, start, start, 0.0);
    let share = |buckets: &Buckets, after| buckets.share(Service::Elb, start + secs(after));
    assert!((share(&buckets, 10.0) - 0.6).abs() < 1e-6);
    assert!((share(&buckets, 50.0) - 1.0).abs() < 1e-6);
    assert!((share(&buckets, 5000.0) - 1.0).abs() < 1e-6);
}

#[test]
fn good_answers_shorten_the_next_pause() {
    let start = Instant::now();
    let mut buckets = Buckets::new(&Limits::default(), start);
    let mut now = start;
    for _ in 0..4 {
        buckets.throttled(Service::Elb, now, now, 0.0);
        now += secs(1.0);
    }
    for _ in 0..4 {
        buckets.answered(Service::Elb, now);
    }
    now += secs(60.0);
    buckets.throttled(Service::Elb, now, now, 0.0);
    assert_eq!(buckets.take(Class::ElbWrite, now), Err(PAUSE_MIN));
}

#[test]
fn a_clock_that_stands_still_or_goes_back_gives_nothing_away() {
    let start = Instant::now() + secs(100.0);
    let mut buckets = Buckets::new(&Limits::default(), start);
    drain(&mut buckets, Class::Verify, start);
    assert!(buckets.take(Class::Verify, start - secs(50.0)).is_err());
    assert!(buckets.take(Class::Verify, start).is_err());
}
