//! With the feature `web`, puts the demo into the binary: every file that `cargo xtask web` has built, packed by gzip, as a
//! table for `http/site.rs`. Without it the table is empty, and nothing of npm is needed.

use std::path::PathBuf;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=FORESHORE_WEB");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo says where to"));
    std::fs::write(out.join("site.rs"), files(&out)).expect("the table is written");
}

#[cfg(not(feature = "web"))]
fn files(_: &std::path::Path) -> String {
    "&[]".into()
}

#[cfg(feature = "web")]
fn files(out: &std::path::Path) -> String {
    let own = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").expect("cargo says where the package is"));
    let built = std::env::var_os("FORESHORE_WEB").map(PathBuf::from);
    let built = built.unwrap_or_else(|| own.join("../target/npm/web-demo/dist"));
    assert!(
        built.join("index.html").is_file(),
        "the feature `web` puts the demo into the binary, and there is none at {}: build it by `cargo xtask web`, or name its \
         directory in FORESHORE_WEB",
        built.display()
    );
    println!("cargo::rerun-if-changed={}", built.display());
    let mut found = Vec::new();
    collect(&built, "", &mut found);
    found.sort();
    let mut table = String::from("&[\n");
    for (index, (path, file)) in found.iter().enumerate() {
        let packed = out.join(format!("site-{index}.gz"));
        std::fs::write(&packed, pack(file)).expect("a packed file is written");
        table.push_str(&format!("    File {{ path: {path:?}, packed: include_bytes!({:?}) }},\n", packed.display()));
    }
    table.push(']');
    table
}

#[cfg(feature = "web")]
fn collect(directory: &std::path::Path, under: &str, found: &mut Vec<(String, PathBuf)>) {
    for entry in std::fs::read_dir(directory).expect("the demo's directory is read") {
        let entry = entry.expect("the demo's directory is read");
        let name = entry.file_name().into_string().expect("names of the demo's files are text");
        let path = format!("{under}/{name}");
        match entry.path().is_dir() {
            true => collect(&entry.path(), &path, found),
            false => found.push((path, entry.path())),
        }
    }
}

#[cfg(feature = "web")]
fn pack(file: &std::path::Path) -> Vec<u8> {
    use std::io::Write as _;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packer.write_all(&std::fs::read(file).expect("a file of the demo is read")).expect("memory takes what is packed");
    packer.finish().expect("memory takes what is packed")
}
