fn main() {
    let mut all = std::collections::BTreeMap::new();
    for path in std::env::args().skip(1) {
        let object = match gemma_rdna3::CodeObject::parse(&std::fs::read(&path).unwrap()) {
            Ok(object) => object,
            Err(error) => {
                println!("{path}: {error}");
                continue;
            }
        };
        for kernel in object.kernels() {
            let bad: Vec<_> = kernel.instructions().iter().filter_map(|i| i.as_ref().err()).collect();
            println!(
                "{path} {} instructions {} bad {} {:?} args {}",
                kernel.name(),
                kernel.instructions().len(),
                bad.len(),
                kernel.descriptor(),
                kernel.argument_bytes()
            );
            for b in bad {
                println!("   {b:x?}");
            }
            for i in kernel.instructions().iter().flatten() {
                *all.entry(i.mnemonic().split(" :: ").next().unwrap().to_owned()).or_insert(0) += 1;
            }
        }
    }
    println!("{} mnemonics {all:?}", all.len());
}
