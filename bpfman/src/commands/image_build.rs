use std::collections::BTreeMap;

use builder::{Architecture, BuildError, BuildRequest, Format, Inputs, Runtime};
use bytecode_image::reference::Reference;

use super::digest_file::DigestFile;
use super::image_pull::reach;
use super::image_store::store;
use crate::args::{BuildArgs, BuildArgsFormat, BytecodeArgs, GenerateBuildArgs, RuntimeWord};
use crate::config::Config;
use crate::error::Error;
use crate::metadata;
use crate::output::{Bar, Printer};

/// `image build`: the image by its digest, as the last line.
pub(super) fn build(args: BuildArgs) -> Result<(), Error> {
    let runtime = args.runtime.map(runtime);
    if args.container_file.is_none() && runtime != Some(Runtime::Builtin) {
        return Err(Error::NoContainerFile);
    }
    let typed = args
        .tag
        .first()
        .map(|tag| tag.typed.clone())
        .unwrap_or_default();
    let mut tags = args.tag.into_iter().map(|tag| checked(tag.reference));
    // The parser asks for one.
    let tag = tags.next().ok_or(Error::NoTag)??;
    let request = BuildRequest {
        inputs: inputs(args.bytecode),
        tag,
        other_tags: tags.collect::<Result<_, _>>()?,
        container_file: args.container_file,
        runtime,
        reach: reach(args.registry_auth.as_deref())?,
        store: Some(store(&Config::read()?)),
        push: !args.no_push,
        output: args.output,
        annotations: metadata::collect(args.annotation, None)?,
        allow_differences: args.allow_differences,
    };
    let digest_file = args.digest_file.map(DigestFile::prepare).transpose()?;
    let built = builder::build(&request, &Bar).map_err(|source| match source {
        // It says itself what it was doing.
        BuildError::Stopped { .. } => Error::from(source),
        BuildError::Push { .. } => Error::to("push", &typed)(source),
        _ => Error::to("build", &typed)(source),
    })?;
    // Both are tried: the tag has moved, and what it names now must be known.
    let written = digest_file.map_or(Ok(()), |file| file.write(built.digest));
    // One line per repository, that of the first tag last.
    let mut printed = vec![built.reference.name()];
    for tag in &request.other_tags {
        if !printed.contains(&tag.name()) {
            printed.push(tag.name());
            Printer::default().pushed(tag, built.digest)?;
        }
    }
    Printer::default().pushed(&built.reference, built.digest)?;
    written
}

/// `image generate-build-args`.
pub(super) fn generate_build_args(args: GenerateBuildArgs) -> Result<(), Error> {
    let format = match args.format {
        BuildArgsFormat::Text => Format::Text,
        BuildArgsFormat::Shell => Format::Shell,
        BuildArgsFormat::Json => Format::Json,
        BuildArgsFormat::Github => Format::Github,
    };
    let arguments = builder::build_args(&inputs(args.bytecode))?;
    let rendered = arguments
        .render(format)
        .map_err(builder::BuildError::from)?;
    Printer::default().bytes(&rendered)
}

/// A tag to be given cannot have the digest of what is not built yet.
pub(super) fn checked(reference: Reference) -> Result<Reference, Error> {
    match reference.digest() {
        Some(_) => Err(Error::TagWithDigest {
            tag: reference.to_string(),
        }),
        None => Ok(reference),
    }
}

fn runtime(word: RuntimeWord) -> Runtime {
    match word {
        RuntimeWord::Docker => Runtime::Docker,
        RuntimeWord::Podman => Runtime::Podman,
        RuntimeWord::Builtin => Runtime::Builtin,
    }
}

/// The command line has exactly one of the three ways.
fn inputs(args: BytecodeArgs) -> Inputs {
    match (args.bytecode, args.cilium_ebpf_project) {
        (Some(file), _) => Inputs::Bytecode(file),
        (None, Some(folder)) => Inputs::CiliumEbpfProject(folder),
        (None, None) => Inputs::Architectures(BTreeMap::from_iter(
            [
                (Architecture::I386, args.bc_386_el),
                (Architecture::Amd64, args.bc_amd64_el),
                (Architecture::Arm, args.bc_arm_el),
                (Architecture::Arm64, args.bc_arm64_el),
                (Architecture::Loong64, args.bc_loong64_el),
                (Architecture::Mips, args.bc_mips_eb),
                (Architecture::Mipsle, args.bc_mipsle_el),
                (Architecture::Mips64, args.bc_mips64_eb),
                (Architecture::Mips64le, args.bc_mips64le_el),
                (Architecture::Ppc64, args.bc_ppc64_eb),
                (Architecture::Ppc64le, args.bc_ppc64le_el),
                (Architecture::Riscv64, args.bc_riscv64_el),
                (Architecture::S390x, args.bc_s390x_eb),
            ]
            .into_iter()
            .filter_map(|(architecture, file)| Some((architecture, file?))),
        )),
    }
}
