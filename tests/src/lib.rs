//! End-to-end tests of the real `creto` program, in `tests/e2e`.
//!
//! They start the program as a user would, in a directory of their own, and talk
//! to it over HTTP and the command line only. The program has to be built first
//! (`cargo build -p creto`); `CRETO_BIN` names another one.
