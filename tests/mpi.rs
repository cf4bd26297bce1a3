//! `mpirun flatness analyze`: the bytes of one process whatever the number of ranks, and an end for all where one ends.
//!
//! `FLATNESS_KILLS=N` tries N kills in place of a handful.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rand::{RngExt, SeedableRng};

/// Kills of an ordinary run.
const KILLS: u64 = 3;

/// What may pass between a failure and the end of all ranks.
const PATIENCE: Duration = Duration::from_secs(20);

fn flatness(line: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_flatness"));
    command.args(line.split_whitespace());
    command
}

/// The same on several ranks, of one thread each.
fn ranks(count: usize, line: &str) -> Command {
    let mut command = Command::new("mpirun");
    command.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
    // Without a network or room for shared memory in a container, messages still go through.
    command.env("OMPI_MCA_btl_vader_single_copy_mechanism", "none");
    oversubscribe(&mut command);
    command.args(["-n", &count.to_string(), env!("CARGO_BIN_EXE_flatness")]).args(line.split_whitespace());
    command
}

/// More ranks than cores, for OpenMPI 4 and 5.
fn oversubscribe(command: &mut Command) {
    command.env("OMPI_MCA_rmaps_base_oversubscribe", "1");
    command.env("PRTE_MCA_rmaps_default_mapping_policy", ":oversubscribe");
}

fn succeed(mut command: Command) {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", words(&output));
}

fn words(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// The tables and eigenvectors of a result.
fn results(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let named = files.filter_map(|path| Some((path.file_name()?.to_str()?.to_owned(), path)));
    let kept = named.filter(|(name, _)| {
        name != "timings.parquet" && (name.ends_with(".parquet") || name.ends_with(".safetensors"))
    });
    kept.map(|(name, path)| (name, std::fs::read(path).unwrap())).collect()
}

/// Checkpoints of an MLP and a ResNet, and a GPT as `torch.export` leaves it, each with its options.
fn networks(folder: &Path) -> Vec<(&'static str, String)> {
    let trained = |name: &str, model: &str| {
        let out = folder.join(name).display().to_string();
        succeed(flatness(&format!("train --model {model} --data glyphs --rows 0..400 --epochs 1 -q --out {out}")));
        format!("{out}/checkpoint.safetensors --rows 0..200 --top 3 --bottom 1 --steps 12")
    };
    let mut networks = vec![("mlp", trained("mlp", "mlp:24")), ("resnet", trained("resnet", "resnet-cifar:8,width=4"))];
    let gpt = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/reference/programs/gpt2");
    match gpt.join("net.pt2").exists() {
        true => {
            let gpt = gpt.display();
            let line = format!("{gpt}/net.pt2 --data tensors:{gpt}/data.safetensors --top 2 --bottom 1 --steps 8");
            networks.push(("gpt", line));
        }
        false => println!("SKIPPED: the exported GPT, {} is absent", gpt.display()),
    }
    networks
}

#[test]
fn any_number_of_ranks_writes_the_bytes_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    for (name, line) in networks(folder.path()) {
        let line = format!(
            "analyze {line} --operator hessian,ggn --method lanczos --slice-points 3 --plane-points 0 --threads 1"
        );
        has_the_same_bytes_on_ranks(folder.path(), name, &line, 1..=4);
    }
    let mlp = folder.path().join("mlp/checkpoint.safetensors");
    let mlp = format!("{} --rows 0..200 --threads 1", mlp.display());
    let gram = format!("analyze {mlp} --operator ggn,empirical-fisher --method gram --slice-points 0 --plane-points 0");
    has_the_same_bytes_on_ranks(folder.path(), "gram", &gram, 2..=3);
    has_the_same_bytes_on_ranks(folder.path(), "evaluate", &format!("evaluate {mlp} --ood noise"), 2..=3);
    // Two ranks take some of the chains each, three share their gradients.
    for batch in ["", "--batch 50"] {
        let llc = format!("llc {mlp} --chains 2 --draws 20 --burn-in 10 {batch}");
        has_the_same_bytes_on_ranks(folder.path(), &format!("llc{}", batch.len()), &llc, 2..=3);
    }
    let training = "train --model mlp:24 --data glyphs --rows 0..300 --batch-size 100 --epochs 2 --optimizer sam:rho=0.05 \
                    --track top:1 --snapshots 1 --threads 1";
    has_the_same_bytes_on_ranks(folder.path(), "training", training, 2..=3);
}

#[test]
fn a_training_goes_on_with_another_number_of_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let line =
        "train --model mlp:16 --data glyphs --rows 0..200 --batch-size 50 --optimizer adamw --threads 1 --epochs";
    let [whole, part] = ["whole", "part"].map(|name| folder.path().join(name));
    succeed(flatness(&format!("{line} 60 --out {}", whole.display())));
    let mut mpirun = ranks(3, &format!("{line} 60 --out {}", part.display()));
    let mut mpirun = mpirun.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    // After some epochs, or at its end where it is faster.
    let is_begun =
        || std::fs::read_dir(&part).into_iter().flatten().flatten().any(|entry| is_state(&entry.file_name()));
    while !is_begun() && mpirun.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    for pid in started(&mpirun) {
        Command::new("kill").args(["-9", &pid.to_string()]).status().unwrap();
    }
    if !mpirun.wait().unwrap().success() {
        succeed(ranks(2, &format!("{line} 60 --resume --out {}", part.display())));
    }
    assert!(results(&part) == results(&whole));
}

fn is_state(name: &std::ffi::OsStr) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("state-") && name.ends_with(".safetensors"))
}

#[test]
fn an_experiment_shares_its_analyses_among_ranks() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grid.toml");
    let text = "name = \"grid\"\nsteps = [\"train\", \"analyze\", \"evaluate\"]\nseeds = [0]\n\
                [train]\nmodel = \"mlp:8\"\ndata = \"glyphs\"\nrows = \"0..200\"\nepochs = 1\n\
                [analyze]\nrows = \"0..100\"\nslice_points = 0\nplane_points = 0\n\
                [evaluate]\nrows = \"0..100\"\n";
    std::fs::write(&file, text).unwrap();
    let cells = |ranks: usize| {
        let out = folder.path().join(format!("out-{ranks}"));
        let mut run = flatness(&format!("run {} --out {} --ranks {ranks}", file.display(), out.display()));
        run.env("OMPI_ALLOW_RUN_AS_ROOT", "1").env("OMPI_ALLOW_RUN_AS_ROOT_CONFIRM", "1");
        oversubscribe(&mut run);
        run.env_remove("SLURM_JOB_ID");
        succeed(run);
        let runs = std::fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
        let steps = runs.filter(|path| path.is_dir()).flat_map(|run| std::fs::read_dir(run).unwrap());
        let steps = steps.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir() && !path.ends_with("train"));
        let steps: BTreeMap<_, _> = steps.map(|step| (step.file_name().unwrap().to_owned(), results(&step))).collect();
        assert_eq!(steps.values().filter(|tables| !tables.is_empty()).count(), 2);
        steps
    };
    assert!(cells(1) == cells(2));
    let mut without = flatness(&format!("run {} --ranks 2", file.display()));
    let output = without.env("PATH", "").env_remove("SLURM_JOB_ID").output().unwrap();
    assert!(words(&output).contains("2 ranks cannot be started: there is no `mpirun`"), "{}", words(&output));
}

/// Compares what `line` writes on so many ranks with what it writes without `mpirun`.
fn has_the_same_bytes_on_ranks(folder: &Path, name: &str, line: &str, counts: RangeInclusive<usize>) {
    let out = |ranks: usize| folder.join(format!("{name}-{ranks}"));
    succeed(flatness(&format!("{line} --out {}", out(0).display())));
    let alone = results(&out(0));
    assert!(!alone.is_empty(), "{name}");
    for count in counts {
        succeed(ranks(count, &format!("{line} --out {}", out(count).display())));
        let together = results(&out(count));
        let differing: Vec<_> = alone.keys().filter(|file| together.get(*file) != alone.get(*file)).collect();
        assert!(differing.is_empty() && together.len() == alone.len(), "{name}, {count} ranks: {differing:?}");
    }
}

#[test]
fn what_ranks_cannot_do_is_said_once_and_ends_them() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("mlp").display().to_string();
    succeed(flatness(&format!("train --model mlp:8 --data glyphs --rows 0..100 --epochs 1 -q --out {model}")));
    let analyze = format!("analyze {model}/checkpoint.safetensors --rows 0..50");
    let resnet = folder.path().join("resnet").display().to_string();
    let line = "train --model resnet-cifar:8,width=4 --data glyphs --rows 0..100 --epochs 1 -q --out";
    succeed(flatness(&format!("{line} {resnet}")));
    let coupled = format!("analyze {resnet}/checkpoint.safetensors --rows 0..50 --batch-norm train");
    for (line, named) in [
        ("langevin", "2 ranks were started"),
        (line.trim_end_matches(" --out"), "dropout in training couples the rows"),
        ("analyze absent.safetensors", "cannot read absent.safetensors"),
        (&format!("{analyze} --top many"), "--top many: not a whole number"),
        (&coupled, "couples the rows"),
    ] {
        let (started, output) = (Instant::now(), ranks(2, &format!("{line} --out {model}/x")).output().unwrap());
        let said = words(&output);
        assert_eq!(output.status.code(), Some(2), "{line}\n{said}");
        assert_eq!(said.matches("error: ").count(), 1, "{line}\n{said}");
        assert!(said.contains(named) && started.elapsed() < PATIENCE, "{line}\n{said}");
    }
    // Each of several processes would do all of the work.
    let output = flatness(&format!("{analyze} --out {model}/x")).env("SLURM_STEP_NUM_TASKS", "3").output().unwrap();
    assert!(output.status.code() == Some(2) && words(&output).contains("3 processes were started together"));
    // Rank 1 reads other rows, or none.
    for (other, named) in [
        (format!("{analyze}0"), "rank 1: this rank does not compute what rank 0 does"),
        ("analyze absent.safetensors".into(), "rank 1: cannot read absent.safetensors"),
    ] {
        let mut both = ranks(1, &format!("{analyze} --out {model}/y"));
        both.args([":", "-n", "1", env!("CARGO_BIN_EXE_flatness")]).args(other.split_whitespace());
        let (started, output) = (Instant::now(), both.output().unwrap());
        let said = words(&output);
        assert_eq!(output.status.code(), Some(2), "{other}\n{said}");
        assert!(said.contains(named) && started.elapsed() < PATIENCE, "{other}\n{said}");
    }
}

/// The ranks below an `mpirun` that has started them by now, which may have helpers between itself and them.
fn started(mpirun: &Child) -> Vec<u32> {
    let children = |parent: u32| {
        let path = format!("/proc/{parent}/task/{parent}/children");
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.split_whitespace().filter_map(|child| child.parse().ok()).collect::<Vec<u32>>()
    };
    let mut found = children(mpirun.id());
    let mut next = 0;
    while let Some(parent) = found.get(next) {
        found.extend(children(*parent));
        next += 1;
    }
    let is_ours = |child: &u32| {
        std::fs::read_to_string(format!("/proc/{child}/comm")).is_ok_and(|name| name.trim().starts_with("flatness"))
    };
    found.retain(is_ours);
    found
}

#[test]
fn a_rank_that_is_killed_ends_all_and_its_work_goes_on_with_more() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("mlp").display().to_string();
    succeed(flatness(&format!("train --model mlp:16 --data glyphs --rows 0..400 --epochs 1 -q --out {model}")));
    let options =
        "--rows 0..400 --top 6 --bottom 3 --eig-tol 1e-10 --max-matvecs 400 --method lanczos --plane-points 0";
    let line = format!("analyze {model}/checkpoint.safetensors {options} --save-every 0.02 --threads 1");
    let out = |name: &str| folder.path().join(name);
    let begun = Instant::now();
    succeed(ranks(3, &format!("{line} --out {}", out("whole").display())));
    let (whole, time) = (results(&out("whole")), begun.elapsed());
    let kills = std::env::var("FLATNESS_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(KILLS);
    for kill in 0..kills {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(kill);
        let folder = out(&format!("killed-{kill}"));
        let line = format!("{line} --out {}", folder.display());
        let mut mpirun = ranks(3, &line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(time.mul_f64(rng.random_range(0.3..0.9)));
        let mut pids = started(&mpirun);
        while pids.len() < 3 && mpirun.try_wait().unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
            pids = started(&mpirun);
        }
        // One rank dies; all are asked to stop, as by Slurm before the time of a job is over; or what started them is.
        let victim = rng.random_range(0..3);
        let (signal, victims) = match kill % 3 {
            0 => ("-9", pids.get(victim..=victim).unwrap_or_default().to_vec()),
            1 => ("-TERM", pids.clone()),
            _ => ("-USR1", vec![mpirun.id()]),
        };
        for pid in victims {
            Command::new("kill").args([signal, &pid.to_string()]).status().unwrap();
        }
        let killed = Instant::now();
        let status = loop {
            match mpirun.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(10)),
            }
            assert!(killed.elapsed() < PATIENCE, "kill {kill}: the other ranks go on");
        };
        while pids.iter().any(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
            assert!(killed.elapsed() < PATIENCE, "kill {kill}: a rank is left");
            std::thread::sleep(Duration::from_millis(10));
        }
        if !status.success() {
            // Another number of ranks goes on from the state, or anew where there was none yet.
            succeed(ranks(2 + usize::try_from(kill % 2).unwrap(), &format!("{line} --resume")));
        }
        assert!(results(&folder) == whole, "kill {kill}");
    }
}
