//! `gemma convert`: a model as a GGUF file, or random weights of a shape.

use anyhow::anyhow;
use gemma_hal::DType;
use gemma_matformer::Config;
use gemma_matformer::export::{self as gguf, Export, Filling, TypeRules, synthetic_vocabulary};
use gemma_orchestrator::Model;

use super::export;
use crate::args::ConvertArgs;
use crate::failure::Failure;
use crate::model;

/// Runs the verb.
pub(crate) fn convert(args: &ConvertArgs) -> Result<(), Failure> {
    let matrices = args.dtype.as_deref().map(|name| export::dtype("--type", name)).transpose()?;
    match (&args.input, &args.shape) {
        (_, Some(shape)) => synthetic(args, shape, matrices.unwrap_or(DType::F16)),
        (None, None) => Err(anyhow!("a model to read is missing").into()),
        (Some(input), None) => {
            let model = Model::open(input, args.export.slice.as_deref())?;
            let rules = TypeRules { matrices, ..TypeRules::default() };
            export::model(&model, &rules, None, &args.output, &args.export)
        }
    }
}

fn synthetic(args: &ConvertArgs, shape: &str, matrices: DType) -> Result<(), Failure> {
    let config = match shape.to_lowercase().as_str() {
        "e2b" => Config::e2b(),
        "e4b" => Config::e4b(),
        "nano" => model::built_in_config()?,
        _ => return Err(anyhow!("--shape {shape}: choose e2b, e4b or nano").into()),
    };
    if args.export.slice.is_some() {
        return Err(anyhow!("--slice and --shape do not go together; choose the shape of the slice").into());
    }
    let weights = gguf::shapes(&config).map_err(anyhow::Error::from)?;
    let rules = export::rules(&TypeRules { matrices: Some(matrices), ..TypeRules::default() }, &args.export)?;
    let metadata = synthetic_vocabulary(&config).metadata();
    let filling = Filling { seed: Some(args.seed), importance: None };
    let file = Export::new(&config, &weights, &rules, &metadata, filling).map_err(anyhow::Error::from)?;
    export::write(&file, &args.output, None, &args.export, export::limits(&config))
}
