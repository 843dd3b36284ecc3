use std::sync::OnceLock;
#[allow(clippy::disallowed_methods)]
pub fn stamp(what: &str) {
    static ON: OnceLock<bool> = OnceLock::new();
    if *ON.get_or_init(|| std::env::var_os("STAMP").is_some()) {
        let t = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
        eprintln!("STAMP {} {} {}", t, std::process::id(), what);
    }
}
