//! Which place wins, what is refused and in which words, and the help as people see it.

use clap::{CommandFactory, Parser};

use super::*;

type Line<'a> = &'a [&'a str];
type Variables<'a> = &'a [(&'a str, &'a str)];

/// Resolves a command line, environment variables and a file `flagd.toml`.
fn resolve(line: &[&str], variables: &[(&str, &str)], file: &str) -> Result<Config, String> {
    let typed = Typed::try_parse_from([&["flagd"], line].concat()).map_err(|error| error.to_string())?;
    let variable = |name: &str| {
        let found = variables.iter().find(|(variable, _)| *variable == name);
        found.map(|(_, value)| OsString::from(*value))
    };
    let read = |path: &Path| {
        if path == Path::new("flagd.toml") {
            return Ok(file.to_owned());
        }
        Err(std::io::Error::from(std::io::ErrorKind::NotFound))
    };
    Config::resolve(typed, Surroundings { variable: &variable, file: &read })
        .map_err(|error| error.to_string())
}

#[test]
fn without_options_there_are_good_ones() {
    let wanted = Config {
        command: Command::Serve,
        store: StoreChoice::Redb("data/flagd.redb".into()),
        quota_bytes: QUOTA_DEFAULT_BYTES,
        upstream: vec![],
        listen: "127.0.0.1:8013".parse().unwrap(),
        server_name: "flagd".to_owned(),
        advertise: None,
        drain_timeout: Duration::from_secs(10),
        admission: Admission {
            connections_max: 50_000,
            connections_per_second: 5_000,
            streams_max: 100_000,
            streams_per_second: 1_000,
            streams_at_once: 2_000,
        },
        log: LogSettings { format: LogFormat::Text, level: LogLevel::Info },
        banner: Banner::Shown,
    };
    assert_eq!(resolve(&[], &[], ""), Ok(wanted));
}

#[test]
fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
    let file = "listen = \"127.0.0.1:3\"\nserver-name = \"file\"\nquota = 4096\nquiet = true\n";
    let config = &["--config", "flagd.toml"][..];
    let line = &["--config", "flagd.toml", "--listen", "127.0.0.1:1"][..];
    let variable = ("FLAGD_LISTEN", "127.0.0.1:2");
    let cases: &[(&str, Line<'_>, Variables<'_>, u16)] = &[
        ("nothing", &[], &[], 8013),
        ("the file", config, &[], 3),
        ("the file, named by the environment", &[], &[("FLAGD_CONFIG", "flagd.toml")], 3),
        ("the environment over the file", config, &[variable], 2),
        ("the command line over both", line, &[variable], 1),
        ("an empty variable is none", config, &[("FLAGD_LISTEN", "")], 3),
    ];
    for (case, line, variables, port) in cases {
        assert_eq!(resolve(line, variables, file).unwrap().listen.port(), *port, "{case}");
    }
    let resolved = resolve(config, &[("HOSTNAME", "machine")], file).unwrap();
    assert_eq!((resolved.server_name.as_str(), resolved.quota_bytes), ("file", 4096));
    assert_eq!(resolved.banner, Banner::Hidden);
    assert_eq!(resolve(&[], &[("HOSTNAME", "machine")], "").unwrap().server_name, "machine");
}

#[test]
fn every_option_is_known_to_every_place() {
    let wanted = Config {
        command: Command::Serve,
        store: StoreChoice::Redb("x/y.redb".into()),
        quota_bytes: 512 * 1024 * 1024,
        upstream: vec!["http://a:1".to_owned(), "http://b:2".to_owned()],
        listen: "0.0.0.0:9000".parse().unwrap(),
        server_name: "one".to_owned(),
        advertise: Some("http://10.0.0.5:8013".to_owned()),
        drain_timeout: Duration::from_millis(1_500),
        admission: Admission {
            connections_max: 1,
            connections_per_second: 2,
            streams_max: 3,
            streams_per_second: 4,
            streams_at_once: 1_000_000,
        },
        log: LogSettings { format: LogFormat::Json, level: LogLevel::Debug },
        banner: Banner::Hidden,
    };
    let line = "--listen 0.0.0.0:9000 --insecure --store redb:x/y.redb --quota 512MiB --server-name one \
                --advertise http://10.0.0.5:8013/ --upstream http://a:1,http://b:2 \
                --drain-timeout 1500ms --connections-max 1 --connections-per-second 2 --streams-max 3 \
                --streams-per-second 4 --streams-at-once 1000000 --log-format json --log-level debug --quiet";
    assert_eq!(resolve(&line.split_whitespace().collect::<Vec<_>>(), &[], ""), Ok(wanted.clone()));
    let variables = [
        ("FLAGD_LISTEN", "0.0.0.0:9000"),
        ("FLAGD_INSECURE", "1"),
        ("FLAGD_STORE", "x/y.redb"),
        ("FLAGD_QUOTA", "536870912"),
        ("FLAGD_SERVER_NAME", "one"),
        ("FLAGD_ADVERTISE", "http://10.0.0.5:8013"),
        ("FLAGD_UPSTREAM", "http://a:1, http://b:2/"),
        ("FLAGD_DRAIN_TIMEOUT", "1500ms"),
        ("FLAGD_CONNECTIONS_MAX", "1"),
        ("FLAGD_CONNECTIONS_PER_SECOND", "2"),
        ("FLAGD_STREAMS_MAX", "3"),
        ("FLAGD_STREAMS_PER_SECOND", "4"),
        ("FLAGD_STREAMS_AT_ONCE", "1000000"),
        ("FLAGD_LOG_FORMAT", "json"),
        ("FLAGD_LOG_LEVEL", "debug"),
        ("FLAGD_QUIET", "true"),
    ];
    assert_eq!(resolve(&[], &variables, ""), Ok(wanted.clone()));
    let file = "listen = \"0.0.0.0:9000\"\ninsecure = true\nstore = \"x/y.redb\"\nquota = \"512MiB\"\n\
                server-name = \"one\"\ndrain-timeout = \"1500ms\"\nlog-format = \"json\"\nlog-level = \"debug\"\n\
                quiet = true\nconnections-max = 1\nconnections-per-second = 2\nstreams-max = 3\n\
                streams-per-second = 4\nstreams-at-once = 1000000\nephemeral = false\nupstream = \"http://a:1,http://b:2\"\nadvertise = \"http://10.0.0.5:8013\"\n";
    assert_eq!(resolve(&["--config", "flagd.toml"], &[], file), Ok(wanted));
}

#[test]
fn the_store_is_a_file_or_memory_or_etcd() {
    let redb = |path: &str| Ok(StoreChoice::Redb(path.into()));
    let etcd = |url: &str| StoreChoice::Etcd(Box::new(EtcdConfig::parse(url).unwrap()));
    let cases: &[(&str, Line<'_>, Variables<'_>, Result<StoreChoice, &str>)] = &[
        ("a path", &["--store", "a.redb"], &[], redb("a.redb")),
        ("a path with its kind", &["--store", "redb:a:b"], &[], redb("a:b")),
        ("memory", &["--store", "memory"], &[], Ok(StoreChoice::Memory)),
        ("ephemeral", &["--ephemeral"], &[], Ok(StoreChoice::Memory)),
        ("ephemeral over a variable", &["--ephemeral"], &[("FLAGD_STORE", "a")], Ok(StoreChoice::Memory)),
        ("a flag over an ephemeral variable", &["--store", "a"], &[("FLAGD_EPHEMERAL", "1")], redb("a")),
        ("both say memory", &["--ephemeral", "--store", "memory"], &[], Ok(StoreChoice::Memory)),
        ("both", &["--ephemeral", "--store", "a"], &[], Err("drop one")),
        ("etcd", &["--store", "etcd://a:1,b/flags"], &[], Ok(etcd("etcd://a:1,b/flags"))),
        (
            "etcd with a quota",
            &["--store", "etcd://a", "--quota", "1GiB"],
            &[],
            Ok(etcd("etcd://a?quota=1GiB")),
        ),
        ("etcd, wrong", &["--store", "etcd://"], &[], Err("--store: `etcd://...` names 0 hosts")),
        ("etcd with a password", &["--store", "etcd://u:p@h"], &[], Err("`etcd://...` holds credentials")),
        ("another kind", &["--store", "postgres://h/db"], &[], Err("`postgres`")),
        ("redb without a file", &["--store", "redb:"], &[], Err("names no file")),
    ];
    for (case, line, variables, wanted) in cases {
        let found = resolve(line, variables, "").map(|config| config.store);
        match wanted {
            Ok(_) => {
                assert_eq!(found.as_ref().map_err(String::as_str), wanted.as_ref().map_err(|e| *e), "{case}");
            }
            Err(part) => {
                let error = found.unwrap_err();
                assert!(error.contains(part), "{case}: {error}");
            }
        }
    }
}

#[test]
fn what_means_nothing_is_refused_with_its_place_and_a_fix() {
    let cases: &[(&str, &[&str], &str, &[&str])] = &[
        ("no port", &["--listen", "127.0.0.1"], "", &["--listen", "127.0.0.1:8013"]),
        ("a name for an address", &["--listen", "flags:80"], "", &["--listen", "`flags:80`"]),
        ("open to others", &["--listen", "0.0.0.0:80"], "", &["--listen", "authentication", "--insecure"]),
        ("no size", &["--quota", "much"], "", &["--quota", "8GiB"]),
        ("a size of nothing", &["--quota", "0"], "", &["--quota"]),
        ("a size past all", &["--quota", "99999999TiB"], "", &["--quota"]),
        ("nobody at all", &["--streams-max", "0"], "", &["--streams-max", "from 1 to 1000000"]),
        ("one too many", &["--connections-max", "1000001"], "", &["--connections-max", "`1000001`"]),
        ("a rate with a unit", &["--streams-per-second", "9/s"], "", &["--streams-per-second", "`9/s`"]),
        ("no unit", &["--drain-timeout", "10"], "", &["--drain-timeout", "10s"]),
        ("no format", &["--log-format", "xml"], "", &["--log-format", "json"]),
        ("no level", &["--log-level", "loud"], "", &["--log-level", "debug"]),
        ("an empty name", &["--server-name", ""], "", &["--server-name"]),
        (
            "a typo in the file",
            &["--config", "flagd.toml"],
            "lisen = \"x\"",
            &["flagd.toml", "`lisen`", "`listen`"],
        ),
        ("snake case", &["--config", "flagd.toml"], "log_level = \"info\"", &["`log-level`"]),
        ("a table in the file", &["--config", "flagd.toml"], "[listen]\na = 1", &["flagd.toml: listen"]),
        ("no TOML", &["--config", "flagd.toml"], "listen =", &["flagd.toml", "line 1"]),
        (
            "a bad value in the file",
            &["--config", "flagd.toml"],
            "quota = -1",
            &["flagd.toml: quota", "`-1`"],
        ),
        ("no file", &["--config", "nowhere.toml"], "", &["nowhere.toml"]),
        ("an unknown flag", &["--lisen", "x"], "", &["--lisen", "--listen"]),
    ];
    for (case, line, file, parts) in cases {
        let error = resolve(line, &[], file).unwrap_err();
        for part in *parts {
            assert!(error.contains(part), "{case}: `{part}` is not in: {error}");
        }
    }
}

#[test]
fn commands_know_their_files() {
    let backup = resolve(&["backup", "--store", "a.redb", "copy.redb"], &[], "").unwrap();
    assert_eq!(backup.store, StoreChoice::Redb("a.redb".into()));
    assert_eq!(backup.command, Command::Backup { to: "copy.redb".into() });
    let restore = |line: &[&str]| resolve(line, &[], "").map(|config| config.command);
    let command =
        |to: &str, existing| Ok(Command::Restore { from: "copy.redb".into(), to: to.into(), existing });
    assert_eq!(restore(&["restore", "copy.redb"]), command("data/flagd.redb", Existing::Refuse));
    let forced = restore(&["restore", "copy.redb", "--to", "b.redb", "--force"]);
    assert_eq!(forced, command("b.redb", Existing::MoveAside));
    assert!(resolve(&["backup", "--store", "memory", "x"], &[], "").unwrap_err().contains("--store FILE"));
    assert!(resolve(&["restore", "--store", "memory", "x"], &[], "").unwrap_err().contains("--to FILE"));
}

/// The help is documentation. When it changes on purpose, write what this test prints into `help.txt`.
#[test]
fn the_help_is_what_help_txt_shows() {
    let mut command = Typed::command().term_width(100);
    command.build();
    let mut help = command.render_long_help().to_string();
    for name in ["backup", "restore"] {
        let mut sub = command.find_subcommand_mut(name).unwrap().clone().term_width(100);
        help += &["\n---- flagd ", name, " --help ----\n", &sub.render_long_help().to_string()].concat();
    }
    let help: Vec<&str> = help.lines().map(str::trim_end).collect();
    let wanted: Vec<&str> = include_str!("help.txt").lines().collect();
    assert!(help == wanted, "{}", help.join("\n"));
}

#[test]
fn where_others_reach_the_server_is_a_bare_address() {
    let advertise = |url: &str| resolve(&["--advertise", url], &[], "").map(|config| config.advertise);
    for (url, want) in [
        ("http://10.0.0.5:8013", Some("http://10.0.0.5:8013")),
        ("http://flagd-0.flagd:8013/", Some("http://flagd-0.flagd:8013")),
        ("http://[::1]:8013", Some("http://[::1]:8013")),
        ("10.0.0.5:8013", None),
        ("http://10.0.0.5", None),
        ("https://10.0.0.5:8013", None),
        ("http://user:word@10.0.0.5:8013", None),
        ("http://10.0.0.5:8013/path", None),
        ("http://10.0.0.5:8013/?a", None),
        ("", None),
    ] {
        match (advertise(url), want) {
            (Ok(Some(got)), Some(want)) => assert_eq!(got, want, "{url}"),
            (Ok(None), None) if url.is_empty() => {}
            (Err(error), None) => assert!(error.contains("http://HOST:PORT"), "{url}: {error}"),
            (got, _) => panic!("{url}: {got:?}"),
        }
    }
}

#[test]
fn servers_that_share_a_store_say_where_they_are() {
    let etcd = ["--store", "etcd://e1:2379/flagd", "--insecure", "--listen"];
    let with = |more: &[&str]| resolve(&[&etcd, more].concat(), &[], "").map(|config| config.advertise);
    assert_eq!(with(&["10.0.0.5:8013"]), Ok(None), "the address where it listens");
    assert!(with(&["0.0.0.0:8013"]).unwrap_err().contains("--advertise http://HOST:8013"));
    let said = with(&["0.0.0.0:8013", "--advertise", "http://a:8013"]);
    assert_eq!(said, Ok(Some("http://a:8013".to_owned())));
}

#[test]
fn a_mistyped_variable_is_noticed() {
    let names = ["FLAGD_LISTNE", "FLAGD_LISTEN", "FLAGD_SERVERS", "FLAGD_TEST_ETCD", "HOME"];
    let unknown = unknown_variables(names.map(str::to_owned));
    assert_eq!(unknown, [("FLAGD_LISTNE".to_owned(), Some("FLAGD_LISTEN".to_owned()))]);
}
