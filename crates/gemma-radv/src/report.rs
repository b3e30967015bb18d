//! Compiles a pipeline with RADV, and writes down what came of it.
//!
//! Two lines of JSON for each: its entry point before it is compiled, so that a compiler that ends the process is found
//! out, and behind it the statistics and the assembly.

use std::env;
use std::ffi::{CStr, c_char};
use std::fs::OpenOptions;
use std::io::{self, Write as _};

use ash::vk;
use serde_json::{Map, Value, json};

use crate::device::Devices;
use crate::drivers;

/// Where the report's file is named.
const REPORT: &str = "GEMMA_RADV_REPORT";

/// The name of the representation that is reported.
const ASSEMBLY: &CStr = c"Assembly";

/// Compiles `info` and reports it. That RADV refuses it is reported too, and is no error.
///
/// # Errors
/// Where there is no report to write to.
///
/// # Safety
/// `info` is valid for the compiler's device.
pub(crate) unsafe fn compile(
    devices: &Devices,
    mut info: vk::ComputePipelineCreateInfo<'_>,
) -> Result<(), vk::Result> {
    // SAFETY: as the caller promises.
    let entry = unsafe { CStr::from_ptr(info.stage.p_name) }.to_string_lossy().into_owned();
    write(&json!({ "begins": entry }))?;
    info.flags |= vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
        | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
    let mut required = vk::PipelineShaderStageRequiredSubgroupSizeCreateInfo::default();
    if let Some(size) = drivers::subgroup() {
        required.required_subgroup_size = size;
        required.p_next = info.stage.p_next.cast_mut();
        info.stage.p_next = (&raw const required).cast();
        info.stage.flags &= !vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE;
    }
    // SAFETY: as the caller promises; `required` outlives the call.
    let made = unsafe { devices.compiler.create_compute_pipelines(vk::PipelineCache::null(), &[info], None) };
    let pipeline = match made {
        Ok(made) => made[0],
        Err((_, error)) => return write(&json!({ "entry": entry, "refused": error.as_raw() })),
    };
    // SAFETY: the pipeline has just been made with both captures.
    let record = unsafe { describe(devices, pipeline, &entry) };
    // SAFETY: nobody else has it.
    unsafe { devices.compiler.destroy_pipeline(pipeline, None) };
    write(&record?)
}

/// # Safety
/// `pipeline` was made by the compiler's device, with statistics and representations captured.
unsafe fn describe(devices: &Devices, pipeline: vk::Pipeline, entry: &str) -> Result<Value, vk::Result> {
    let executables = &devices.executables;
    let of = vk::PipelineInfoKHR::default().pipeline(pipeline);
    // SAFETY: as the caller promises.
    let all = unsafe { executables.get_pipeline_executable_properties(&of) }?;
    let subgroup = all.first().map_or(0, |executable| executable.subgroup_size);
    // A compute pipeline is one executable.
    let executable = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
    // SAFETY: as above.
    let counted = unsafe { executables.get_pipeline_executable_statistics(&executable) }?;
    let mut statistics = Map::new();
    for one in &counted {
        // SAFETY: the format says which of the values it is.
        let value = unsafe {
            match one.format {
                vk::PipelineExecutableStatisticFormatKHR::BOOL32 => json!(one.value.b32),
                vk::PipelineExecutableStatisticFormatKHR::INT64 => json!(one.value.i64),
                vk::PipelineExecutableStatisticFormatKHR::UINT64 => json!(one.value.u64),
                _ => json!(one.value.f64),
            }
        };
        statistics.insert(text(&one.name), value);
    }
    // SAFETY: as above.
    let assembly = unsafe { assembly(devices, &executable) }?;
    Ok(json!({ "entry": entry, "subgroup": subgroup, "statistics": statistics, "assembly": assembly }))
}

/// # Safety
/// As [`describe`].
unsafe fn assembly(
    devices: &Devices,
    executable: &vk::PipelineExecutableInfoKHR<'_>,
) -> Result<String, vk::Result> {
    let executables = &devices.executables;
    // SAFETY: as the caller promises.
    let mut all = unsafe { executables.get_pipeline_executable_internal_representations(executable) }?;
    // The first call says how long each is; the second fills them.
    let mut texts: Vec<Vec<u8>> = all.iter().map(|one| vec![0; one.data_size]).collect();
    for (one, text) in all.iter_mut().zip(&mut texts) {
        one.p_data = text.as_mut_ptr().cast();
    }
    let mut count = all.len() as u32;
    // SAFETY: each representation has a place of the size it has asked for.
    let filled = unsafe {
        (executables.fp().get_pipeline_executable_internal_representations_khr)(
            devices.compiler.handle(),
            executable,
            &raw mut count,
            all.as_mut_ptr(),
        )
    };
    if filled != vk::Result::SUCCESS {
        return Err(filled);
    }
    let found = all.iter().zip(&texts).find(|(one, _)| one.name_as_c_str() == Ok(ASSEMBLY));
    let found = found.and_then(|(_, text)| CStr::from_bytes_until_nul(text).ok());
    Ok(found.map(|text| text.to_string_lossy().into_owned()).unwrap_or_default())
}

/// A name of the driver's.
fn text(name: &[c_char]) -> String {
    let bytes: Vec<u8> = name.iter().take_while(|byte| **byte != 0).map(|byte| *byte as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn write(record: &Value) -> Result<(), vk::Result> {
    let append = || -> io::Result<()> {
        let path = env::var_os(REPORT).ok_or(io::ErrorKind::NotFound)?;
        let mut line = record.to_string();
        line.push('\n');
        OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())
    };
    append().map_err(|_| vk::Result::ERROR_INITIALIZATION_FAILED)
}
