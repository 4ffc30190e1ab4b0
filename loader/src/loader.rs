use crate::kernel::Kernel;
use crate::state::Guard;
use crate::{
    AttachRequest, Config, Link, LinkFilter, LoadRequest, LoaderError, Program, ProgramFilter, ProgramSummary,
};

/// Loads, attaches, detaches, unloads and shows programs on one kernel, with one runtime folder.
#[derive(Debug)]
pub struct Loader<K> {
    pub(crate) kernel: K,
    pub(crate) config: Config,
}

impl<K: Kernel> Loader<K> {
    /// A loader. Touches neither the kernel nor the disk.
    pub fn new(kernel: K, config: Config) -> Self {
        Self { kernel, config }
    }

    /// Waits for the lock. What a process that died has left half done is undone or finished here. Without a runtime
    /// folder nothing is made: the guard is then empty, and the first [`Loader::load`] makes the folder and locks it.
    ///
    /// # Errors
    ///
    /// When another process holds the lock for longer than the configuration allows, or lock and journal cannot be used.
    pub fn lock(&self) -> Result<Guard, LoaderError> {
        Err(LoaderError::NotBuiltYet("lock"))
    }

    /// Loads the programs asked for, or none: in the order asked.
    ///
    /// # Errors
    ///
    /// When the request does not fit the object, the kernel refuses, or the store cannot be written.
    pub fn load(&self, _guard: &mut Guard, _request: LoadRequest) -> Result<Vec<Program>, LoaderError> {
        Err(LoaderError::NotBuiltYet("load"))
    }

    /// Attaches a program of ours.
    ///
    /// # Errors
    ///
    /// When the hook does not fit the program, is full or taken, or the kernel refuses.
    pub fn attach(
        &self,
        _guard: &mut Guard,
        _program_id: u32,
        _request: AttachRequest,
    ) -> Result<Link, LoaderError> {
        Err(LoaderError::NotBuiltYet("attach"))
    }

    /// Takes a link away.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NoSuchLink`], or a refusal of the kernel.
    pub fn detach(&self, _guard: &mut Guard, _link_id: u32) -> Result<(), LoaderError> {
        Err(LoaderError::NotBuiltYet("detach"))
    }

    /// Takes a program and its links away.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NoSuchProgram`], or a refusal of the kernel.
    pub fn unload(&self, _guard: &mut Guard, _program_id: u32) -> Result<(), LoaderError> {
        Err(LoaderError::NotBuiltYet("unload"))
    }

    /// Programs, by ascending id.
    ///
    /// # Errors
    ///
    /// When the store or the kernel cannot be read.
    pub fn programs(&self, _guard: &Guard, _filter: &ProgramFilter) -> Result<Vec<ProgramSummary>, LoaderError> {
        Err(LoaderError::NotBuiltYet("list programs"))
    }

    /// Links of ours, by program and then in the order they were made.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn links(&self, _guard: &Guard, _filter: &LinkFilter) -> Result<Vec<Link>, LoaderError> {
        Err(LoaderError::NotBuiltYet("list links"))
    }

    /// One program, ours or not.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NoSuchProgram`], or store or kernel cannot be read.
    pub fn program(&self, _guard: &Guard, _id: u32) -> Result<Program, LoaderError> {
        Err(LoaderError::NotBuiltYet("get program"))
    }

    /// One link of ours.
    ///
    /// # Errors
    ///
    /// [`LoaderError::NoSuchLink`], or the store cannot be read.
    pub fn link(&self, _guard: &Guard, _id: u32) -> Result<Link, LoaderError> {
        Err(LoaderError::NotBuiltYet("get link"))
    }
}
