//! The multi-call entry: the command named by argv[0], else by the first argument, else the broker.

#[global_allocator]
static ALLOCATOR: midge::server::memory::Counting = midge::server::memory::Counting;

fn main() -> std::process::ExitCode {
    midge::cli::main()
}
