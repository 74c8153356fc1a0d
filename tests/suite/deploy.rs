//! The files in `examples/deploy`: they are YAML, every server's options are ones that flagd has and takes, and the
//! parts fit together. Whether a container runtime takes them is not known here.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use flagd_server::config::{Config, StoreChoice, Surroundings, Typed, TypedOptions};
use serde_json::Value;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ lies in the workspace")
        .join("examples/deploy")
}

fn documents(file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(folder().join(file)).expect("the file is there");
    let parts = text.split("\n---\n").map(serde_saphyr::from_str);
    parts.collect::<Result<_, _>>().unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// What flagd makes of these variables; every `FLAGD_` one must be an option.
fn resolve(variables: &BTreeMap<String, String>) -> Config {
    let no_file = |_: &Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    let typed = || Typed { options: TypedOptions::default(), command: None };
    let with = |variables: &BTreeMap<String, String>| {
        let variable = |name: &str| variables.get(name).map(OsString::from);
        Config::resolve(typed(), Surroundings { variable: &variable, file: &no_file })
    };
    let resolved = with(variables).unwrap_or_else(|error| panic!("{variables:?}: {error}"));
    for name in variables.keys().filter(|name| name.starts_with("FLAGD_")) {
        // An option that exists notices when it is written as nothing that any option takes.
        let broken = variables
            .iter()
            .map(|(key, value)| (key.clone(), if key == name { "\u{7}".to_owned() } else { value.clone() }));
        let is_read = with(&broken.collect()).map_or(true, |other| other != resolved);
        assert!(is_read, "{name} is not an option of flagd");
    }
    resolved
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text")).to_owned()
}

fn check_servers(servers: &[BTreeMap<String, String>], etcd: &[String]) {
    let configs: Vec<_> = servers.iter().map(resolve).collect();
    let distinct = |what: &dyn Fn(&Config) -> String| {
        let mut all: Vec<_> = configs.iter().map(what).collect();
        all.sort();
        all.dedup();
        all.len()
    };
    assert_eq!(configs.len(), 2);
    assert_eq!(distinct(&|config| config.server_name.clone()), 2, "servers have names of their own");
    assert_eq!(distinct(&|config| config.advertise.clone().expect("an address for the others")), 2);
    for config in &configs {
        let StoreChoice::Etcd(store) = &config.store else { panic!("{:?}", config.store) };
        assert_eq!(store.endpoints, etcd, "all etcd nodes are named");
        let advertised = config.advertise.as_deref().expect("an address");
        assert!(advertised.ends_with(&format!(":{}", config.listen.port())), "{advertised}");
    }
}

#[test]
fn the_compose_file_starts_three_etcd_nodes_and_two_servers() {
    let file = documents("compose.yaml").remove(0);
    let services = file["services"].as_object().expect("services");
    let mut etcd = Vec::new();
    let mut servers = Vec::new();
    for (name, service) in services {
        if name.starts_with("etcd-") {
            let command: Vec<_> =
                service["command"].as_array().expect("a command").iter().map(text).collect();
            assert!(command.contains(&format!("--name={name}")), "{name}");
            assert!(command.contains(&format!("--advertise-client-urls=http://{name}:2379")), "{name}");
            let cluster =
                command.iter().find(|option| option.starts_with("--initial-cluster=")).expect("peers");
            assert!(cluster.contains(&format!("{name}=http://{name}:2380")), "{name}");
            etcd.push(format!("{name}:2379"));
        } else {
            let variables = service["environment"].as_object().expect("an environment");
            let variables: BTreeMap<_, _> =
                variables.iter().map(|(key, value)| (key.clone(), text(value))).collect();
            assert_eq!(variables["FLAGD_ADVERTISE"], format!("http://{name}:8013"));
            servers.push(variables);
        }
    }
    assert_eq!(etcd.len(), 3);
    check_servers(&servers, &etcd);
}

fn of_kind<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let found = documents.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn the_manifests_start_three_etcd_nodes_and_two_servers() {
    let etcd = documents("kubernetes/etcd.yaml");
    let members = of_kind(&etcd, "StatefulSet", "flagd-etcd");
    assert_eq!(members["spec"]["replicas"], 3);
    assert_eq!(of_kind(&etcd, "Service", "flagd-etcd")["spec"]["clusterIP"], "None");
    let addresses: Vec<_> = (0..3).map(|n| format!("flagd-etcd-{n}.flagd-etcd:2379")).collect();

    let flagd = documents("kubernetes/flagd.yaml");
    let set = of_kind(&flagd, "StatefulSet", "flagd");
    let replicas = set["spec"]["replicas"].as_u64().expect("a number");
    let container = &set["spec"]["template"]["spec"]["containers"][0];
    let servers: Vec<BTreeMap<_, _>> = (0..replicas)
        .map(|number| {
            let fixed = container["env"].as_array().expect("variables").iter();
            let fixed = fixed.filter(|variable| variable.get("value").is_some());
            let pod = format!("flagd-{number}");
            fixed.map(|one| (text(&one["name"]), text(&one["value"]).replace("$(POD)", &pod))).collect()
        })
        .collect();
    check_servers(&servers, &addresses);
    let grace = set["spec"]["template"]["spec"]["terminationGracePeriodSeconds"].as_u64().expect("a number");
    assert!(grace > resolve(&servers[0]).drain_timeout.as_secs(), "longer than it takes to drain");
    assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/healthz");
    assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz");
    for one in etcd.iter().chain(&flagd).filter(|one| one["kind"] == "StatefulSet") {
        let labels = &one["spec"]["template"]["metadata"]["labels"];
        assert_eq!(&one["spec"]["selector"]["matchLabels"], labels);
        assert_eq!(one["spec"]["serviceName"], one["metadata"]["name"]);
    }
}
