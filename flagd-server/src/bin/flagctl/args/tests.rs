//! What is understood, what is not, and what the help says.

use std::fmt::Write as _;

use clap::CommandFactory as _;

use super::*;

fn parse(words: &[&str]) -> Result<Cli, clap::Error> {
    Cli::try_parse_from(std::iter::once(&"flagctl").chain(words))
}

#[test]
fn a_share_is_read_with_and_without_a_variant() {
    let share = |variant: Option<&str>, ppm| Some((variant.map(str::to_owned), ppm));
    let cases = [
        ("25%", share(None, 250_000)),
        ("25", share(None, 250_000)),
        ("0%", share(None, 0)),
        ("100%", share(None, 1_000_000)),
        ("0.0001%", share(None, 1)),
        ("on=25%", share(Some("on"), 250_000)),
        ("v1.2=1.5", share(Some("v1.2"), 15_000)),
        ("101%", None),
        ("-1%", None),
        ("0.00001%", None),
        ("=5%", None),
        ("on=", None),
        ("%", None),
        ("half", None),
    ];
    for (text, want) in cases {
        let got = text.parse::<change::Share>().ok().map(|share| (share.variant, share.share_ppm));
        assert_eq!(got, want, "{text}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_before_a_server_is_asked() {
    let cases: &[(&str, &[&str])] = &[
        ("no verb", &[]),
        ("an unknown verb", &["explode"]),
        ("kill without a flag", &["kill"]),
        ("ramp without a share", &["ramp", "a"]),
        ("a share over 100", &["ramp", "a", "101%"]),
        ("two places", &["ramp", "a", "5%", "--rule", "x", "--otherwise"]),
        ("create with nothing", &["create"]),
        ("create with a key and a file", &["create", "a", "-f", "a.json"]),
        ("apply without a file", &["apply"]),
        ("--expect without a file", &["edit", "a", "--expect", "5"]),
        ("rollback of nothing", &["rollback"]),
        ("rollback to before everything", &["rollback", "a", "--to", "0"]),
        ("segment add without a unit", &["segment", "add", "staff"]),
        ("a time that is none", &["history", "--since", "yesterday"]),
        ("a timeout that is none", &["kill", "a", "--timeout", "10"]),
        ("an unknown format", &["list", "--output", "xml"]),
        ("--no-wait where nothing waits anyway", &["enable", "a", "--no-wait"]),
    ];
    for (name, words) in cases {
        assert_eq!(parse(words).unwrap_err().exit_code(), 2, "{name}");
    }
}

#[test]
fn options_stand_before_or_after_the_verb() {
    for words in [["-e", "staging", "list"], ["list", "-e", "staging"]] {
        assert_eq!(parse(&words).unwrap().global.environment.as_deref(), Some("staging"));
    }
    let servers = parse(&["status", "--server", "a:1,b:2"]).unwrap().global.servers;
    assert_eq!(servers, ["a:1", "b:2"]);
}

#[test]
fn a_kill_waits_unless_told_otherwise() {
    let kill = |words: &[&str]| match parse(words).unwrap().verb {
        Verb::Kill(args) => (args.flags.len(), !args.no_wait, args.timeout),
        other => panic!("{other:?}"),
    };
    assert_eq!(kill(&["kill", "a"]), (1, true, Duration::from_secs(10)));
    assert_eq!(kill(&["kill", "a", "b", "--no-wait"]), (2, false, Duration::from_secs(10)));
    assert_eq!(kill(&["kill", "a", "--timeout", "500ms"]), (1, true, Duration::from_millis(500)));
}

#[test]
fn the_definitions_of_arguments_are_sound() {
    Cli::command().debug_assert();
}

#[test]
fn every_help_text_is_as_it_was_agreed() {
    let mut pages = String::new();
    page(&mut pages, Cli::command(), "flagctl");
    insta::assert_snapshot!("help", pages);
}

fn page(pages: &mut String, command: clap::Command, name: &str) {
    let mut command = command.term_width(100).bin_name(name.to_owned());
    let _ = writeln!(pages, "$ {name} --help\n{}", command.render_long_help());
    for verb in command.get_subcommands() {
        let verb = verb.clone();
        let name = format!("{name} {}", verb.get_name());
        page(pages, verb, &name);
    }
}
