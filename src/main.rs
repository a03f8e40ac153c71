//! The multi-call entry: the command named by argv[0], else by the first argument, else the broker.

fn main() -> std::process::ExitCode {
    midge::cli::main()
}
