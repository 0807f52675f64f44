use super::*;

const ME: Mac = Mac([2, 0, 0, 0, 0, 9]);
const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn ip() -> IpAddr {
    [192, 0, 2, 1].into()
}

/// Who asks.
fn source(number: u8) -> IpAddr {
    [192, 0, 2, 100 + number].into()
}

/// For the first source.
fn answer(mac: Mac) -> Answer {
    answer_to(source(0), mac)
}

fn answer_to(source: IpAddr, mac: Mac) -> Answer {
    Answer {
        ip: ip(),
        mac,
        to: Some(source),
    }
}

#[test]
fn a_silence_between_two_owners_is_found() {
    let mut tally = Tally::new(&[ip()], ME);
    for at in 0..10 {
        tally.asked(ip(), source(0), ms(at * 10));
        match at {
            0..3 => drop(tally.answered(&answer(A), ms(at * 10 + 1))),
            3..8 => {}
            _ => drop(tally.answered(&answer(B), ms(at * 10 + 1))),
        }
    }
    let summary = &tally.summary(ms(100))[&ip()];
    assert_eq!((summary.asked, summary.answered), (10, 5));
    assert_eq!((summary.unanswered, summary.open), (5, 0));
    assert_eq!(summary.longest_silence_ms, 60.0);
    assert_eq!(
        (summary.silence_from_ms, summary.silence_to_ms),
        (21.0, 81.0)
    );
    assert_eq!(summary.macs.len(), 2);
    assert_eq!(summary.macs[&A.to_string()].last_ms, 21.0);
    assert_eq!(summary.macs[&B.to_string()].first_ms, 81.0);
}

#[test]
fn a_late_answer_is_the_one_to_its_own_question() {
    let mut tally = Tally::new(&[ip()], ME);
    for n in 0..3 {
        assert_eq!(tally.asked(ip(), source(n), ms(u64::from(n) * 10)), None);
    }
    let late = tally.answered(&answer_to(source(0), A), ms(60)).unwrap();
    assert_eq!(late.asked_at, Some(ms(0)));
    let last = tally.answered(&answer_to(source(2), A), ms(61)).unwrap();
    assert_eq!(last.asked_at, Some(ms(20)));
    let summary = &tally.summary(ms(70))[&ip()];
    assert_eq!((summary.answered, summary.unanswered), (2, 0));
    assert_eq!((summary.open, summary.slowest_ms), (1, 60.0));
}

#[test]
fn a_question_whose_patience_is_over_was_never_answered() {
    let mut tally = Tally::new(&[ip()], ME);
    for n in 0..3 {
        tally.asked(ip(), source(n), ms(u64::from(n) * 10));
    }
    tally.answered(&answer_to(source(1), A), ms(12)).unwrap();
    assert_eq!(tally.overdue(ms(499)), []);
    let lost = |at| Unanswered { ip: ip(), at };
    assert_eq!(tally.overdue(ms(519)), [lost(ms(0))]);
    assert_eq!(tally.overdue(ms(520)), [lost(ms(20))]);
    // What comes now comes too late.
    let late = tally.answered(&answer_to(source(0), A), ms(530)).unwrap();
    assert_eq!(late.asked_at, None);
    let summary = &tally.summary(ms(540))[&ip()];
    assert_eq!((summary.answered, summary.unanswered), (1, 2));
    assert_eq!((summary.open, summary.slowest_ms), (0, 2.0));
}

#[test]
fn a_question_whose_source_is_needed_again_was_never_answered() {
    let mut tally = Tally::new(&[ip()], ME);
    tally.asked(ip(), source(0), ms(0));
    let lost = tally.asked(ip(), source(0), ms(10));
    assert_eq!(
        lost,
        Some(Unanswered {
            ip: ip(),
            at: ms(0)
        })
    );
    tally.answered(&answer(A), ms(11)).unwrap();
    assert_eq!(tally.asked(ip(), source(0), ms(20)), None);
    // The first one's time is over, the others' not.
    assert_eq!(tally.overdue(ms(505)), []);
    let summary = &tally.summary(ms(505))[&ip()];
    assert_eq!((summary.asked, summary.answered), (3, 1));
    assert_eq!((summary.unanswered, summary.open), (1, 1));
}

#[test]
fn two_answers_to_one_question_are_one_answered_question() {
    let mut tally = Tally::new(&[ip()], ME);
    tally.asked(ip(), source(0), ms(0));
    let first = tally.answered(&answer(A), ms(1)).unwrap();
    let second = tally.answered(&answer(B), ms(2)).unwrap();
    assert!(first.changed && second.changed);
    assert_eq!(first.asked_at, Some(ms(0)));
    assert_eq!(second.asked_at, Some(ms(0)));
    let summary = &tally.summary(ms(3))[&ip()];
    assert_eq!((summary.answered, summary.slowest_ms), (1, 1.0));
}

#[test]
fn an_announcement_answers_no_question_but_ends_a_silence() {
    let mut tally = Tally::new(&[ip()], ME);
    tally.asked(ip(), source(0), ms(0));
    let announcement = Answer {
        to: None,
        ..answer(A)
    };
    let seen = tally.answered(&announcement, ms(40)).unwrap();
    assert_eq!(seen.asked_at, None);
    let summary = &tally.summary(ms(50))[&ip()];
    assert_eq!(summary.answered, 0);
    assert_eq!(summary.longest_silence_ms, 40.0);
    assert_eq!(summary.macs[&A.to_string()].announcements, 1);
}

#[test]
fn what_it_says_itself_and_what_it_did_not_ask_for_do_not_count() {
    let mut tally = Tally::new(&[ip()], ME);
    assert_eq!(tally.answered(&answer(ME), ms(1)), None);
    let other = Answer {
        ip: [192, 0, 2, 2].into(),
        ..answer(A)
    };
    assert_eq!(tally.answered(&other, ms(1)), None);
}
