use super::*;

#[test]
fn hours_minutes_and_seconds_are_added() {
    for (text, seconds) in [
        ("30m", 1800),
        ("24h", 86400),
        ("1h30m", 5400),
        ("1h1m1s", 3661),
        ("90s", 90),
        ("0h5m", 300),
        ("008h", 28800),
        ("8760h", 31_536_000),
        ("525600m", 31_536_000),
        ("31536000s", 31_536_000),
    ] {
        assert_eq!(
            parse_duration(text),
            Ok(Duration::from_secs(seconds)),
            "{text}"
        );
    }
}

#[test]
fn what_is_not_a_duration_is_refused_with_an_example() {
    for text in [
        "", " 1h", "1h ", "30", "h", "1d", "-1h", "+1h", "1.5h", "1m1h", "1h1h", "1h 30m", "1H",
        "00001h", "500ms", "١h",
    ] {
        let error = parse_duration(text).expect_err(text);
        assert!(error.contains("for example 24h"), "{error}");
        assert!(error.starts_with(&format!("\"{text}\"")), "{error}");
    }
}

#[test]
fn zero_and_more_than_a_year_are_refused() {
    for text in ["0s", "0h0m0s", "8760h1s", "8761h", "9999h999999m99999999s"] {
        let error = parse_duration(text).expect_err(text);
        assert!(error.contains("at most 8760h"), "{error}");
    }
}
