//! placeholder
use crate::args::DoctorArgs;
use crate::failure::Failure;
pub(crate) fn doctor(_args: &DoctorArgs) -> Result<(), Failure> {
    Ok(())
}
