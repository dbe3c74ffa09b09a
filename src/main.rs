//! The program. All of it is in the library, where tests reach it.

fn main() -> std::process::ExitCode {
    stanzad::cli::main()
}
