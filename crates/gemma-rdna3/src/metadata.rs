//! The metadata of a code object: which kernels it has, and the arguments of each. MessagePack inside an ELF note.
//!
//! Only what a launch needs is read. Format: LLVM, "User Guide for AMDGPU Backend", code object metadata V3 to V5.

use rmpv::ValueRef;

/// How deep maps and lists may be nested.
const MAX_DEPTH: usize = 16;
/// Most bytes of a kernel's arguments.
pub(crate) const MAX_ARGUMENT_BYTES: u64 = 1 << 16;

/// A kernel as the metadata describes it.
#[derive(Debug, Clone)]
pub(crate) struct KernelMetadata {
    pub(crate) name: String,
    /// The symbol of its descriptor.
    pub(crate) symbol: String,
    pub(crate) arguments: Vec<Argument>,
    /// Most work-items of a workgroup.
    pub(crate) max_work_items: u32,
}

/// An argument, or a value that the runtime adds.
#[derive(Debug, Clone)]
pub(crate) struct Argument {
    pub(crate) offset: u32,
    pub(crate) size: u32,
    pub(crate) kind: String,
}

impl Argument {
    pub(crate) fn end(&self) -> u32 {
        self.offset + self.size
    }

    pub(crate) fn is_hidden(&self) -> bool {
        self.kind.starts_with("hidden_")
    }
}

/// Reads the metadata.
pub(crate) fn read(mut bytes: &[u8]) -> Result<Vec<KernelMetadata>, String> {
    let root = rmpv::decode::read_value_ref_with_max_depth(&mut bytes, MAX_DEPTH)
        .map_err(|error| format!("metadata is no MessagePack: {error}"))?;
    let kernels = list(field(&root, "amdhsa.kernels").ok_or("metadata lists no kernels")?)?;
    kernels.iter().map(kernel).collect()
}

fn kernel(value: &ValueRef<'_>) -> Result<KernelMetadata, String> {
    let arguments = match field(value, ".args") {
        Some(arguments) => list(arguments)?.iter().map(argument).collect::<Result<_, _>>()?,
        None => Vec::new(),
    };
    Ok(KernelMetadata {
        name: text(value, ".name")?,
        symbol: text(value, ".symbol")?,
        arguments,
        max_work_items: number(value, ".max_flat_workgroup_size")?.min(u64::from(u32::MAX)) as u32,
    })
}

fn argument(value: &ValueRef<'_>) -> Result<Argument, String> {
    let (offset, size) = (number(value, ".offset")?, number(value, ".size")?);
    if offset.saturating_add(size) > MAX_ARGUMENT_BYTES {
        return Err(format!("an argument at {offset} of {size} bytes"));
    }
    Ok(Argument { offset: offset as u32, size: size as u32, kind: text(value, ".value_kind")? })
}

fn field<'a>(value: &'a ValueRef<'a>, name: &str) -> Option<&'a ValueRef<'a>> {
    let ValueRef::Map(entries) = value else { return None };
    let is_name = |key: &ValueRef<'_>| matches!(key, ValueRef::String(text) if text.as_str() == Some(name));
    entries.iter().find(|(key, _)| is_name(key)).map(|(_, value)| value)
}

fn list<'a>(value: &'a ValueRef<'a>) -> Result<&'a [ValueRef<'a>], String> {
    match value {
        ValueRef::Array(values) => Ok(values),
        _ => Err("metadata has no list where one belongs".to_owned()),
    }
}

fn text(value: &ValueRef<'_>, name: &str) -> Result<String, String> {
    match field(value, name) {
        Some(ValueRef::String(text)) => text.as_str().map(str::to_owned).ok_or(()),
        _ => Err(()),
    }
    .map_err(|()| format!("metadata has no text {name}"))
}

fn number(value: &ValueRef<'_>, name: &str) -> Result<u64, String> {
    match field(value, name) {
        Some(ValueRef::Integer(number)) => number.as_u64().ok_or(()),
        _ => Err(()),
    }
    .map_err(|()| format!("metadata has no number {name}"))
}
