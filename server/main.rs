//! The `trivium` program: reads what it is told, runs, and ends with 0, with 1 when it could not run,
//! or with 2 when it was told something wrong.

use std::{
    fmt,
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use trivium::{
    Config, Signals,
    args::{Args, Command, ServeArgs},
    definitions, frontends, log,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Args::parse().command {
        Command::Serve(args) => serve(&args),
        Command::Definitions(args) => finish(definitions::run(&args)),
        Command::Bench(args) => finish(bench(*args)),
    }
}

fn serve(args: &ServeArgs) -> ExitCode {
    let config = match Config::load(args) {
        Ok(config) => config,
        Err(error) => return fail(2, &error),
    };
    log::start(&config.log);
    raise_open_files_limit();
    finish(run(config))
}

fn bench(args: trivium_load::Args) -> anyhow::Result<()> {
    raise_open_files_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(trivium_load::run(args))
}

fn run(config: Config) -> anyhow::Result<()> {
    use_small_pages();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let signals = Signals::listen()?;
        let endpoints = frontends::standard(&config);
        trivium::run(config, endpoints, signals.wait()).await
    })
}

fn finish(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &format_args!("{error:#}")),
    }
}

fn fail(code: u8, error: &dyn fmt::Display) -> ExitCode {
    let _ = writeln!(io::stderr(), "trivium: {error}");
    ExitCode::from(code)
}

/// With huge pages, what many small allocations leave between them is resident too: a sixth more memory for each idle
/// connection.
fn use_small_pages() {
    // Where the kernel has no huge pages there are none to do without.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// Every connection is an open file, and the usual soft limit of 1024 is for programs that use `select`.
fn raise_open_files_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}
