//! Tells xtask which machine it is compiled for: the one that cargo, with the same settings, builds the program for.

fn main() -> Result<(), std::env::VarError> {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-env=TARGET={}", std::env::var("TARGET")?);
    Ok(())
}
