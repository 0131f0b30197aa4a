//! Takes the digit images as they are distributed, gives them to the program as bytes: 64 counts of 0..=16, then the
//! digit. And the map of the board's memory to the linker.

use std::io::Read;
use std::path::PathBuf;

const FILE: &str = "../data/digits.csv.gz";

fn main() -> std::io::Result<()> {
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or(std::io::ErrorKind::NotFound)?);
    let mut text = String::new();
    flate2::read::GzDecoder::new(std::fs::File::open(FILE)?).read_to_string(&mut text)?;
    let numbers = text.lines().flat_map(|line| line.split(','));
    let bytes: Result<Vec<u8>, _> = numbers.map(str::parse).collect();
    std::fs::write(out.join("digits.bin"), bytes.map_err(std::io::Error::other)?)?;
    std::fs::copy("memory.x", out.join("memory.x"))?;
    println!("cargo::rerun-if-changed={FILE}");
    println!("cargo::rerun-if-changed=memory.x");
    println!("cargo::rustc-link-search={}", out.display());
    println!("cargo::rustc-link-arg=-Tlink.x");
    Ok(())
}
