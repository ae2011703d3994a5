//! What follows on what.

use super::*;

const HOUR: Seconds = 3600;
const NOT_YET: Known = Known { all_trust: false, expired: false };
const ALL: Known = Known { all_trust: true, expired: false };

fn block(name: &str) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{name}\n-----END CERTIFICATE-----\n")
}

fn pair(name: &str) -> Pair {
    Pair { certificates: name.into(), key: name.into(), anchors: block(name) }
}

fn anchors(names: &[&str]) -> String {
    names.iter().map(|name| block(name)).collect()
}

/// RO-02: A, then A and B, then B.
#[test]
fn a_new_root_is_known_to_all_before_it_signs_and_the_old_one_until_its_last_certificate_has_run_out() {
    let (mut succession, pace) = (Succession::settled(pair("a")), Pace::default());
    let mut seen = vec![];
    let retired = pace.introduce.as_secs() + pace.retire.as_secs();
    for (at, offered, known) in [
        (0, Some("b"), NOT_YET),
        (1, Some("b"), NOT_YET),
        (10, None, ALL),
        (60, None, NOT_YET),
        (60, None, ALL),
        (retired - 1, None, ALL),
        (retired, None, NOT_YET),
    ] {
        if let Some(offered) = offered {
            succession.offer(pair(offered), false, at, &pace);
        }
        succession.step(known, at, &pace);
        seen.push((at, succession.signer().key.clone(), succession.phase(), succession.anchors()));
    }
    let [a, b] = ["a", "b"].map(String::from);
    assert_eq!(
        seen,
        [
            (0, a.clone(), Phase::Introducing, anchors(&["a", "b"])),
            (1, a.clone(), Phase::Introducing, anchors(&["a", "b"])),
            (10, a.clone(), Phase::Introducing, anchors(&["a", "b"])),
            (60, a, Phase::Introducing, anchors(&["a", "b"])),
            (60, b.clone(), Phase::Retiring, anchors(&["b", "a"])),
            (retired - 1, b.clone(), Phase::Retiring, anchors(&["b", "a"])),
            (retired, b, Phase::Settled, anchors(&["b"])),
        ]
    );
}

#[test]
fn proxies_that_do_not_answer_are_waited_for_as_long_as_a_certificate_lives() {
    let (mut succession, pace) = (Succession::settled(pair("a")), Pace::default());
    succession.offer(pair("b"), false, 0, &pace);
    assert!(!succession.step(NOT_YET, 24 * HOUR - 1, &pace));
    assert!(succession.step(NOT_YET, 24 * HOUR, &pace));
    assert_eq!(succession.signer().key, "b");
}

#[test]
fn a_signer_that_has_run_out_is_not_waited_with() {
    let (mut succession, pace) = (Succession::settled(pair("a")), Pace::default());
    succession.offer(pair("b"), false, 0, &pace);
    assert!(succession.step(Known { expired: true, ..NOT_YET }, 1, &pace));
    assert_eq!((succession.signer().key.as_str(), succession.phase()), ("b", Phase::Retiring));
}

#[test]
fn an_intermediate_of_a_known_root_signs_at_once() {
    let (mut succession, pace) = (Succession::settled(pair("a")), Pace::default());
    let intermediate = Pair { anchors: block("a"), ..pair("a-1") };
    assert!(succession.offer(intermediate, true, 0, &pace));
    assert_eq!((succession.signer().key.as_str(), succession.phase()), ("a-1", Phase::Settled));
    assert_eq!(succession.anchors(), anchors(&["a"]));
}

#[test]
fn who_changes_their_mind_goes_back_at_once_in_either_phase() {
    let pace = Pace::default();
    let mut introducing = Succession::settled(pair("a"));
    introducing.offer(pair("b"), false, 0, &pace);
    assert!(introducing.offer(pair("a"), true, 1, &pace));
    assert_eq!(introducing, Succession::settled(pair("a")));

    let mut retiring = Succession::settled(pair("a"));
    retiring.offer(pair("b"), false, 0, &pace);
    retiring.step(ALL, 60, &pace);
    assert_eq!(retiring.known_anchors(), anchors(&["b", "a"]));
    assert!(retiring.offer(pair("a"), true, 70, &pace));
    assert_eq!((retiring.signer().key.as_str(), retiring.anchors()), ("a", anchors(&["a", "b"])));
}

/// What B signed is valid still while C is introduced and takes over.
#[test]
fn a_third_root_does_not_cut_the_second_short() {
    let (mut succession, pace) = (Succession::settled(pair("a")), Pace::default());
    succession.offer(pair("b"), false, 0, &pace);
    succession.step(ALL, 60, &pace);
    succession.offer(pair("c"), false, HOUR, &pace);
    assert_eq!((succession.phase(), succession.anchors()), (Phase::Introducing, anchors(&["b", "c", "a"])));
    succession.step(ALL, 2 * HOUR, &pace);
    assert_eq!(succession.anchors(), anchors(&["c", "a", "b"]));
    succession.step(ALL, 25 * HOUR, &pace);
    assert_eq!(succession.anchors(), anchors(&["c", "b"]));
    succession.step(ALL, 27 * HOUR, &pace);
    assert_eq!((succession.phase(), succession.anchors()), (Phase::Settled, anchors(&["c"])));
}

#[test]
fn where_it_stands_outlives_a_restart_and_debug_output_shows_no_key() {
    let mut succession = Succession::settled(Pair { key: "very secret".into(), ..pair("a") });
    succession.offer(pair("b"), false, 0, &Pace::default());
    let text = serde_json::to_string(&succession).unwrap();
    assert_eq!(serde_json::from_str::<Succession>(&text).unwrap(), succession);
    assert!(!format!("{succession:?}").contains("very secret"));
}
