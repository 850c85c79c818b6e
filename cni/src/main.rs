//! `culvert-cni`: a chained CNI plug-in; see the library for what it does.

use std::{
    io::{self, Read as _, Write as _},
    process::ExitCode,
};

use culvert_cni::{config::MAX_CONFIG, plugin};

fn main() -> ExitCode {
    let mut given = std::env::args_os().skip(1);
    if let Some(first) = given.next() {
        let is_question = ["--help", "-h", "--version", "-V"].iter().any(|known| first == *known);
        if !is_question || given.next().is_some() {
            eprintln!("culvert-cni: takes no arguments but --help or --version; {first:?} is none of them");
            return ExitCode::from(2);
        }
        println!(concat!(
            "culvert-cni ",
            env!("CARGO_PKG_VERSION"),
            "\nA chained CNI plug-in: container runtimes call it, with CNI_COMMAND in the environment and a network \
             configuration on standard input."
        ));
        return ExitCode::SUCCESS;
    }
    let mut input = Vec::new();
    // One byte more than allowed shows that it is too long.
    let read = io::stdin().take(MAX_CONFIG as u64 + 1).read_to_end(&mut input);
    let outcome = match read {
        Ok(_) => plugin::run(|name| std::env::var(name).ok(), &input),
        Err(error) => Err(plugin::unreadable(&error)),
    };
    let (text, code) = match outcome {
        Ok(text) => (text, ExitCode::SUCCESS),
        Err(error) => (error.json(), ExitCode::FAILURE),
    };
    // Nobody is left to tell when standard output is gone.
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}
