//! The core that a command runs on: takes what the machine says of itself, gives the core of the table that it is.

use cotangent_build::Core;

/// The core at hand; an error says what is known of it.
pub fn core() -> Result<&'static Core, String> {
    let name = name();
    let found = name.as_deref().ok().and_then(Core::named);
    found.ok_or_else(|| match name {
        Ok(name) | Err(name) => {
            format!("this core is {name}, which is in no table: the nearest of the others can be named")
        }
    })
}

/// What AMD and Intel number by family and model.
#[cfg(target_arch = "x86_64")]
fn name() -> Result<String, String> {
    use std::arch::x86_64::__cpuid;
    let (vendor, version) = (__cpuid(0).ebx, __cpuid(1).eax);
    let (base, extended) = (version >> 8 & 15, version >> 20 & 255);
    let family = if base == 15 { base + extended } else { base };
    let model = version >> 4 & 15 | version >> 12 & 0xf0;
    // "Auth" of AuthenticAMD, "Genu" of GenuineIntel.
    let known = match (&vendor.to_le_bytes(), family, model) {
        (b"Auth", 26, _) => "zen5",
        (b"Auth", 25, 0x10..=0x1f | 0x60..=0x7f | 0xa0..=0xaf) => "zen4",
        (b"Auth", 25, _) => "zen3",
        (b"Genu", 6, 0x8f | 0xcf | 0xad | 0xae) => "sapphirerapids",
        (b"Genu", 6, 0x97 | 0x9a | 0xbf | 0xb7 | 0xba) => "alderlake",
        (b"Genu", 6, 0x4e | 0x5e | 0x8e | 0x9e | 0xa5 | 0xa6) => "skylake",
        (b"Genu", 6, 0x3c | 0x3f | 0x45 | 0x46 | 0x3d | 0x47 | 0x4f | 0x56) => "haswell",
        _ => return Err(format!("family {family} model {model} of its maker")),
    };
    Ok(known.into())
}

/// Linux tells the part by its number, as Arm's manuals do; a Mac has Apple's.
#[cfg(not(target_arch = "x86_64"))]
fn name() -> Result<String, String> {
    if cfg!(all(target_arch = "aarch64", target_os = "macos")) {
        return Ok("apple-m1".into());
    }
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let part = text.lines().find(|l| l.starts_with("CPU part")).and_then(|l| l.rsplit(' ').next());
    match part {
        Some("0xd0c" | "0xd0b") => Ok("neoverse-n1".into()),
        Some("0xd4f") => Ok("neoverse-v2".into()),
        Some("0xd08" | "0xd07") => Ok("cortex-a72".into()),
        Some(part) => Err(format!("part {part}")),
        None => Err("without a number".into()),
    }
}
