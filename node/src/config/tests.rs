use super::*;

fn environment(pairs: &[(&str, &str)]) -> Layers {
    Layers::new(pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())))
}

fn with_file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f.toml");
    std::fs::write(&path, text).unwrap();
    (directory, path)
}

fn load_file(text: &str) -> Result<Config, ConfigError> {
    let (_directory, path) = with_file(text);
    let mut layers = environment(&[]);
    layers.file(Some(path));
    Config::load(layers)
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let (_directory, path) = with_file("space = 'f'\nhttp = '127.0.0.1:1'\ncache = '2MiB'\nmax_connections = 7");
    let mut layers = environment(&[("FORESHORE_SPACE", "e"), ("FORESHORE_HTTP", "127.0.0.1:2")]);
    layers.file(Some(path.clone())).flag("space", Some("flag"));
    let config = Config::load(layers).unwrap();
    assert_eq!((config.space.value.as_str(), &config.space.source), ("flag", &Source::Flag("--space".into())));
    assert_eq!(config.http.value, HttpListen::At("127.0.0.1:2".parse().unwrap()));
    assert_eq!(config.http.source, Source::Environment("FORESHORE_HTTP".into()));
    assert_eq!((config.cache.value, &config.cache.source), (2 << 20, &Source::File(path)));
    assert_eq!(config.max_connections.value, 7);
    assert_eq!(config.log.source, Source::Default);
}

#[test]
fn defaults_are_valid() {
    let config = Config::load(environment(&[])).unwrap();
    let listen: Vec<_> = config.listen.value.iter().map(ListenAddress::as_str).collect();
    assert_eq!(listen, ["/ip4/127.0.0.1/tcp/4801", "/ip4/127.0.0.1/udp/4801/quic-v1", "/ip4/127.0.0.1/tcp/4802/ws"]);
    assert_eq!(config.listen.value[2].with_any_port().as_str(), "/ip4/127.0.0.1/tcp/0/ws");
    assert_eq!(config.raw.len(), KEYS.len());
}

#[test]
fn a_file_in_the_data_directory_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("foreshore.toml");
    std::fs::write(&file, "space = 'here'").unwrap();
    let mut layers = environment(&[("FORESHORE_DATA", directory.path().to_str().unwrap())]);
    let config = Config::load(layers.clone()).unwrap();
    assert_eq!((config.space.value.as_str(), config.file.as_ref()), ("here", Some(&file)));
    std::fs::write(&file, "data = '/elsewhere'").unwrap();
    layers.flag("space", Some("x"));
    assert!(matches!(Config::load(layers), Err(ConfigError::Invalid { key: "data", .. })));
}

#[test]
fn lists_come_from_commas_and_arrays() {
    let config = Config::load(environment(&[("FORESHORE_LISTEN", "off"), ("FORESHORE_HTTP_HOSTS", "A.example, b")]));
    let config = config.unwrap();
    assert!(config.listen.value.is_empty());
    assert_eq!(config.http_hosts.value, ["a.example", "b"]);
    let config = load_file("dial = ['/ip4/192.0.2.1/tcp/1', '/dns4/x/tcp/2']").unwrap();
    assert_eq!(config.dial.value.len(), 2);
}

#[test]
fn an_error_names_the_key_and_the_file() {
    for (text, names) in [
        ("spcae = 'x'", &["spcae", "did you mean `space`", "f.toml"][..]),
        ("cache = 'big'", &["`cache`", "\"big\"", "64MiB"]),
        ("cache = 1", &["`cache`", "\"1\""]),
        ("storage = 'disk'", &["`storage`", "redb"]),
        ("http = 'localhost'", &["`http`", "127.0.0.1:4800"]),
        ("listen = ['here']", &["`listen`", "\"here\"", "0.0.0.0"]),
        ("dial = '192.0.2.1'", &["`dial`", "/ip4/"]),
        ("log = 'foreshore=loud'", &["`log`"]),
        ("log_format = 'xml'", &["`log_format`", "human"]),
        ("reconcile_period = '0s'", &["`reconcile_period`", "30s"]),
        ("max_connections = 0", &["`max_connections`", "1 to"]),
        ("space = ['a']", &["`space`", "not a list"]),
        ("http_hosts = ['a b']", &["`http_hosts`"]),
        ("space = 1979-05-27", &["`space`", "string"]),
        ("a = 1\nspace = ", &["line 2", "f.toml"]),
    ] {
        let error = load_file(text).unwrap_err().to_string();
        assert!(names.iter().all(|name| error.contains(name)), "{text}: {error}");
    }
}

#[test]
fn a_missing_file_is_named() {
    let mut layers = environment(&[]);
    layers.file(Some("/nowhere/f.toml".into()));
    assert!(Config::load(layers).unwrap_err().to_string().contains("/nowhere/f.toml"));
}

#[test]
fn durations_and_sizes() {
    assert_eq!(parse_duration("250ms"), Some(Duration::from_millis(250)));
    assert_eq!(parse_duration("7d"), Some(Duration::from_secs(7 * 86_400)));
    for bad in ["", "s", "5", "5 s", "-5s", "99999999999999999999d"] {
        assert_eq!(parse_duration(bad), None, "{bad}");
    }
    let size = value::bytes(0, u64::MAX);
    assert_eq!((size("3KiB"), size("2 MB"), size("5")), (Ok(3072), Ok(2_000_000), Ok(5)));
}

#[test]
fn switches_are_on_or_off_in_every_layer() {
    let config = load_file("relay = true\nmdns = 'on'\npeer_exchange = 'off'").unwrap();
    assert_eq!((config.relay.value, config.mdns.value, config.peer_exchange.value), (true, true, false));
    let mut layers = environment(&[("FORESHORE_MDNS", "yes")]);
    layers.flag("relay", Some("off"));
    let config = Config::load(layers).unwrap();
    assert_eq!((config.relay.value, config.mdns.value, config.peer_exchange.value), (false, true, true));
    assert!(matches!(load_file("mdns = 'maybe'"), Err(ConfigError::Invalid { key: "mdns", .. })));
}
