//! Other engines, asked by the program in `bench/peers` in the same run.

use std::cell::RefCell;
use std::collections::HashMap;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;

use serde::Deserialize;

const MILLISECONDS: u32 = 1_000;

/// What an engine takes, in nanoseconds.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Measured {
    pub(crate) name: String,
    /// The median of a decision.
    pub(crate) median: f64,
    /// Loading the policies, once.
    pub(crate) load: f64,
}

/// How many policies, and on how many threads at once.
type Asked = (usize, u64);

/// Every engine, by the number of policies and of threads: each is measured once a run.
pub(crate) struct Peers {
    program: PathBuf,
    known: RefCell<HashMap<Asked, Rc<[Measured]>>>,
}

impl Peers {
    /// They lie beside this program.
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        let program = std::env::current_exe()?.with_file_name("creto-bench-peers");
        if !program.is_file() {
            return Err(
                format!("{} is not there; `make bench` builds it", program.display()).into(),
            );
        }
        Ok(Self {
            program,
            known: RefCell::default(),
        })
    }

    /// Cedar first, then the others, with so many policies on so many threads at once.
    pub(crate) fn with(
        &self,
        policies: usize,
        threads: u64,
    ) -> Result<Rc<[Measured]>, Box<dyn Error>> {
        if let Some(known) = self.known.borrow().get(&(policies, threads)) {
            return Ok(Rc::clone(known));
        }
        let run = Command::new(&self.program)
            .args([
                policies.to_string(),
                MILLISECONDS.to_string(),
                threads.to_string(),
            ])
            .output()?;
        if !run.status.success() {
            let said = String::from_utf8_lossy(&run.stderr);
            return Err(format!("{}: {said}", self.program.display()).into());
        }
        let mut found = vec![crate::authz::cedar(policies, threads)?];
        found.extend(serde_json::from_slice::<Vec<Measured>>(&run.stdout)?);
        let found: Rc<[Measured]> = found.into();
        self.known
            .borrow_mut()
            .insert((policies, threads), Rc::clone(&found));
        Ok(found)
    }
}
