//! Examples at the end of help texts.

pub(super) const ANALYZE: &str = "\
Examples:\n\
\x20 flatness analyze run/checkpoint.safetensors\n\
\x20 flatness analyze weights.pth --arch resnet18.pt2 --data cifar10:data --subset 2000\n\
\x20 flatness analyze net.safetensors --operator both --top 10 --layers --json";

pub(super) const SHARPNESS: &str = "\
Examples:\n\
\x20 flatness sharpness net.safetensors --batch 128";

pub(super) const LLC: &str = "\
Examples:\n\
\x20 flatness llc net.safetensors\n\
\x20 flatness llc net.safetensors --gamma 300 --sweep";

pub(super) const EVALUATE: &str = "\
Examples:\n\
\x20 flatness evaluate run/checkpoint.safetensors --ood noise\n\
\x20 flatness evaluate runs/a/checkpoint.safetensors runs/b/checkpoint.safetensors --ood mnist:data --out reports/ensemble";

pub(super) const LANDSCAPE: &str = "\
Examples:\n\
\x20 flatness landscape net.safetensors --out reports/plane\n\
\x20 flatness landscape a.safetensors b.safetensors --out reports/between";

pub(super) const ESTIMATE: &str = "\
Examples:\n\
\x20 flatness estimate net.safetensors --data cifar10:data --top 50";

pub(super) const COMPARE: &str = "\
Examples:\n\
\x20 flatness compare runs/sgd-0 runs/sgd-1 runs/sam-0 runs/sam-1 --baseline sgd\n\
\x20 flatness compare notebooks-out/noisy-labels-cpu --primary lambda_max,test_accuracy";

pub(super) const TRAIN: &str = "\
Examples:\n\
\x20 flatness train --model resnet-cifar:8 --data glyphs --epochs 5 --out runs/sgd\n\
\x20 flatness train --model cnn:8-16 --data mnist:data --optimizer sam:rho=0.1 --noise symmetric:0.2 --out runs/sam\n\
\x20 flatness train --resume --out runs/sam";

pub(super) const RUN: &str = "\
Examples:\n\
\x20 flatness run experiments/glyphs.toml --profile smoke\n\
\x20 flatness run grid.toml --jobs 4\n\
\x20 flatness run grid.toml --emit slurm > job.sh";

pub(super) const INFO: &str = "\
Examples:\n\
\x20 flatness info weights.pth\n\
\x20 flatness info net.pt2 --json";

/// The methods too.
pub(super) fn train() -> String {
    format!("{}\n{TRAIN}", crate::optim::help())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory, Parser};

    use crate::cli::Cli;

    /// Every line of a help text that begins with the program's name.
    #[test]
    fn the_examples_are_sound() {
        let mut count = 0;
        for command in Cli::command().get_subcommands() {
            let Some(text) = command.get_after_help() else { continue };
            let text = text.to_string();
            for line in text.lines().filter_map(|line| line.trim_start().strip_prefix("flatness ")) {
                let line = line.split(" >").next().unwrap();
                assert!(line.starts_with(command.get_name()), "{line}");
                let words = std::iter::once("flatness").chain(line.split_whitespace());
                Cli::try_parse_from(words).unwrap_or_else(|error| panic!("{line}: {error}"));
                count += 1;
            }
        }
        assert!(count >= 15, "{count}");
    }

    #[test]
    fn the_definition_holds_together_and_the_short_help_fits_a_screen() {
        let mut program = Cli::command();
        program.clone().debug_assert();
        program.build();
        for command in program.get_subcommands_mut() {
            let lines = command.clone().term_width(100).render_help().to_string().lines().count();
            assert!(lines <= 65, "{}: {lines} lines", command.get_name());
        }
    }
}
