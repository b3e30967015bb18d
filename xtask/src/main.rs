//! `cargo xtask <chore>`: the chores of this repository.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("name a chore")
}
