//! Every bad input: one clear error with exit code 2, and nothing left behind.

use std::path::Path;

use candle_core::{DType, Device, Tensor};

use crate::support::{
    assert_refused, checkpoint, counting, files, fixture, fixture_arguments, flatness, succeed, write,
};

/// `{…}` in a line stands for a path in the folder of bad files.
fn at(folder: &Path, line: &str) -> String {
    line.replace('{', &format!("{}/", folder.display())).replace('}', "")
}

fn weights(case: &str) -> Vec<u8> {
    std::fs::read(fixture(case, "weights.safetensors")).unwrap()
}

#[test]
fn checkpoints_and_architectures() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let sound = weights("logistic-ce");
    put("empty.safetensors", b"");
    put("half.safetensors", &sound[..sound.len() / 2]);
    put("short.safetensors", &sound[..sound.len() - 1]);
    put("long.safetensors", &[&sound[..], b"more"].concat());
    put("header.safetensors", &[&u64::MAX.to_le_bytes()[..], &sound[8..]].concat());
    put("text.safetensors", b"these are no weights");
    put("zip.pth", b"PK\x03\x04 and then nothing");
    put("broken.json", b"{\"layers\": [");
    put("broken.toml", b"layers = [");
    put("empty.json", b"{\"layers\": []}");
    put("kind.json", br#"{"layers": [{"kind": "linaer"}]}"#);
    put("flat.json", br#"{"layers": [{"kind": "flatten"}]}"#);
    put("huge.json", br#"{"layers": [{"kind": "linear", "in": 99999999999, "out": 3, "weight": "w"}]}"#);
    put("deep.json", "[".repeat(100_000).as_bytes());
    put("binary.json", b"\xff\xfe\x00");
    let nan = Tensor::full(f64::NAN, (3, 6), &Device::Cpu).unwrap();
    write(&folder.path().join("nan.safetensors"), &[("0.weight", &nan), ("0.bias", &counting(&[3]))]);
    write(&folder.path().join("none.safetensors"), &[]);
    let weights = fixture("logistic-ce", "weights.safetensors").display().to_string();
    let arch = format!("--arch {}", fixture("logistic-ce", "model.json").display());
    let other = format!("--arch {}", fixture("mlp-tanh-ce", "model.json").display());
    for (arguments, named, hint) in [
        (format!("{{absent.safetensors}} {arch}"), "absent.safetensors", "check the path"),
        (format!("{{}} {arch}"), "is a folder", "checkpoint.safetensors"),
        (format!("{{empty.safetensors}} {arch}"), "empty.safetensors is an empty file", "copy or download it again"),
        (format!("{{half.safetensors}} {arch}"), "half.safetensors is damaged", "copy the file again"),
        (format!("{{short.safetensors}} {arch}"), "short.safetensors is damaged", "copy the file again"),
        (format!("{{long.safetensors}} {arch}"), "long.safetensors is damaged", "copy the file again"),
        (format!("{{header.safetensors}} {arch}"), "header.safetensors is damaged", "copy the file again"),
        (format!("{{text.safetensors}} {arch}"), "text.safetensors is damaged", "copy the file again"),
        (format!("{{zip.pth}} {arch}"), "zip.pth is damaged or not a PyTorch file", "copy the file again"),
        (format!("{weights} {other}"), "missing: 2.weight, 2.bias, ", "flatness info"),
        (format!("{weights} {other}"), "0.weight: got [3, 6], expected [8, 10]", "flatness info"),
        (format!("{{none.safetensors}} {arch}"), "missing: 0.weight, 0.bias", "flatness info"),
        (format!("{{nan.safetensors}} {arch}"), "`0.weight` holds 18 values that are not finite", "diverged"),
        (format!("{weights} --arch {{absent.json}}"), "absent.json", "--arch"),
        (format!("{weights} --arch {{}}"), "cannot read", "--arch"),
        (format!("{weights} --arch {{broken.json}}"), "broken.json: EOF", "docs/models.md"),
        (format!("{weights} --arch {{broken.toml}}"), "broken.toml: TOML parse error", "docs/models.md"),
        (format!("{weights} --arch {{empty.json}}"), "`layers` is empty", "docs/models.md"),
        (format!("{weights} --arch {{deep.json}}"), "deep.json: recursion limit", "docs/models.md"),
        (format!("{weights} --arch {{binary.json}}"), "binary.json", "--arch"),
        (format!("{weights} --arch {{kind.json}}"), "layers[0]: unknown layer kind `linaer`", "`linear`"),
        (format!("{weights} --arch {{huge.json}}"), "layers[0]", "docs/models.md"),
        ("{none.safetensors} --arch {flat.json}".to_owned(), "has no parameters", "docs/models.md"),
    ] {
        assert_refused(&at(folder.path(), &format!("info {arguments}")), named, hint);
    }
    assert_refused(&format!("check {weights} --data glyphs"), "does not record its architecture", "--arch");
}

/// idx bytes: magic number, sizes, then zeros and `last`.
fn idx(magic: u32, sizes: &[u32], last: u8) -> Vec<u8> {
    let count: u32 = sizes.iter().product();
    let mut bytes: Vec<u8> = std::iter::once(&magic).chain(sizes).flat_map(|word| word.to_be_bytes()).collect();
    bytes.extend(vec![0; count as usize]);
    *bytes.last_mut().unwrap() = last;
    bytes
}

#[test]
fn data() {
    let folder = tempfile::tempdir().unwrap();
    let put = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
    };
    let tensors = |name: &str, tensors: &[(&str, &Tensor)]| write(&folder.path().join(name), tensors);
    let (images, labels) = (idx(0x803, &[4, 2, 3], 7), idx(0x801, &[4], 9));
    for (name, images, labels) in [
        ("idx-magic", idx(0x802, &[4, 2, 3], 7), labels.clone()),
        ("idx-short", images[..images.len() - 1].to_vec(), labels.clone()),
        ("idx-header", images[..7].to_vec(), labels.clone()),
        ("idx-rows", images.clone(), idx(0x801, &[5], 9)),
        ("idx-label", images.clone(), idx(0x801, &[4], 10)),
        ("idx-gz", [&[0x1f, 0x8b, 8, 0][..], &images].concat(), labels),
    ] {
        put(&format!("{name}/train-images-idx3-ubyte"), &images);
        put(&format!("{name}/train-labels-idx1-ubyte"), &labels);
    }
    put("parquet/train-00000-of-00001.parquet", b"PAR1 these are no pages PAR1");
    put("cut/train-00000-of-00001.parquet", b"PAR1\x15\x04\x15");
    put("shards/train-00000-of-00002.parquet", b"PAR1");
    put("bin/data_batch_1.bin", &[0; 3072]);
    put("bin-label/data_batch_1.bin", &[12; 3073]);
    std::fs::create_dir(folder.path().join("nothing")).unwrap();
    let (x, y) = (counting(&[4, 6]), Tensor::new(&[0i64, 1, 2, 1], &Device::Cpu).unwrap());
    let negative = Tensor::new(&[0i64, -1, 2, 1], &Device::Cpu).unwrap();
    tensors("sound.safetensors", &[("x", &x), ("y", &y)]);
    tensors("no-y.safetensors", &[("x", &x)]);
    tensors("wide-y.safetensors", &[("x", &x), ("y", &y.reshape((2, 2)).unwrap())]);
    tensors("flat-x.safetensors", &[("x", &counting(&[4])), ("y", &y)]);
    tensors("rows.safetensors", &[("x", &counting(&[5, 6])), ("y", &y)]);
    tensors("negative.safetensors", &[("x", &x), ("y", &negative)]);
    tensors("nan.safetensors", &[("x", &(&x / 0.0).unwrap()), ("y", &y)]);
    tensors(
        "none.safetensors",
        &[("x", &counting(&[0, 6])), ("y", &Tensor::zeros(0, DType::I64, &Device::Cpu).unwrap())],
    );
    let sound = std::fs::read(folder.path().join("sound.safetensors")).unwrap();
    put("half.safetensors", &sound[..sound.len() - 9]);
    let out = folder.path().join("new/out");
    for (data, named, hint) in [
        ("tensors:{absent.safetensors}", "absent.safetensors does not exist", "expected a .safetensors or .npz file"),
        ("tensors:{nothing}", "nothing has no tensor `x`; it has none", "expected inputs"),
        ("tensors:{half.safetensors}", "half.safetensors is damaged", "incomplete"),
        ("tensors:{no-y.safetensors}", "has no tensor `y`; it has `x`", "expected inputs"),
        ("tensors:{wide-y.safetensors}", "4 inputs but 2 targets", "same number of rows"),
        ("tensors:{flat-x.safetensors}", "`x` is f64 of shape [4]", "expected inputs"),
        ("tensors:{rows.safetensors}", "5 inputs but 4 targets", "same number of rows"),
        ("tensors:{negative.safetensors}", "row 1 has label -1, but the model has 3 classes", "ignore_index"),
        ("tensors:{nan.safetensors}", "nan.safetensors: `x` has the value NaN in row 0", "remove such rows"),
        ("tensors:{none.safetensors}", "has no rows", "at least one row"),
        ("mnist:{absent}", "absent does not exist", "train-images"),
        ("mnist:{half.safetensors}", "is a file, not a folder", "train-images"),
        ("mnist:{nothing}", "no train-images-idx3-ubyte in", "train-images"),
        ("mnist:{idx-magic}", "magic number is 0x00000802", "incomplete"),
        ("mnist:{idx-short}", "holds 39 bytes, not the 40", "incomplete"),
        ("mnist:{idx-header}", "train-images-idx3-ubyte is damaged", "incomplete"),
        ("mnist:{idx-rows}", "4 inputs but 5 targets", "same number of rows"),
        ("mnist:{idx-label}", "row 3: label 10 is not a class (0 to 9)", "count from 0"),
        ("mnist:{idx-gz}", "train-images-idx3-ubyte is damaged", "incomplete"),
        ("cifar10:{nothing}", "no Parquet or binary files of the train split", "train-*.parquet"),
        ("cifar10:{parquet}", "00000-of-00001.parquet is damaged", "incomplete"),
        ("cifar10:{cut}", "00000-of-00001.parquet is damaged", "incomplete"),
        ("cifar10:{shards}", "holds 1 of 2 shards", "remaining shards"),
        ("cifar10:{bin}", "data_batch_1.bin is damaged", "incomplete"),
        ("cifar10:{bin-label}", "row 0: label 12", "count from 0"),
        ("glyps", "unknown source `glyps`", "did you mean `glyphs`?"),
        ("imagenet", "unknown source `imagenet`", "the sources are"),
        ("mnist", "`mnist` is not a valid source", "mnist:DIR"),
        ("glyphs --rows 5..5", "rows 5..5 is empty", "end must be larger"),
        ("glyphs --rows 0..99999999", "0..99999999 reach past the end", "choose rows within"),
        ("glyphs --rows few", "`few` is not a valid row range", "`A..B`"),
        ("glyphs --subset 0", "a subset of 0 rows", "choose 1 to"),
        ("glyphs --rows 0..8 --subset 9", "a subset of 9 rows cannot be chosen from 8", "choose 1 to 8"),
        ("glyphs --split trian", "`trian` is not a valid", "write"),
        ("glyphs --noise symmetric:1.5", "symmetric:1.5", "write"),
        ("glyphs --labels cifar10n:worst", "`cifar10n:worst` is not a valid source of labels", "cifar10n:SET"),
        ("glyphs --labels cifar10n:worse", "no file with cifar10n:worse beside the data", "cifar10n:worse:FILE"),
        ("glyphs --labels cifar10n:worse:{idx-magic}", "is a folder, not a file", "CIFAR-N"),
        ("cifar100:{nothing}", "no Parquet or binary files of the train split", "cifar-100-binary"),
        ("images:{nothing}", "train does not exist", "train/CLASS"),
        ("images:{nothing} --image-size 0", "an image size of 0 pixels", "1 to 4096"),
        ("tensors:{sound.safetensors} --split test", "has no test split", "--split train"),
        ("tensors:{sound.safetensors} --loss mse", "mean squared error cannot take class labels [N]", "mse, l1, huber"),
    ] {
        let line = at(folder.path(), &format!("train --model mlp:4 --epochs 1 --data {data} --out {{new/out}}"));
        assert_refused(&line, named, hint);
        assert!(!out.parent().unwrap().exists(), "{data} left {}", out.display());
    }
}

#[test]
fn data_that_does_not_fit_the_model() {
    let folder = tempfile::tempdir().unwrap();
    let labels = Tensor::new(&[0i64, 1, 9, 1], &Device::Cpu).unwrap();
    for (name, x, y, named, hint) in [
        (
            "labels",
            counting(&[4, 6]),
            labels.clone(),
            "row 2 has label 9, but the model has 3 classes",
            "an output for each class",
        ),
        ("features", counting(&[4, 7]), labels, "layers[0]", ""),
        (
            "targets",
            counting(&[4, 6]),
            counting(&[4, 2]),
            "cross-entropy cannot take real targets [N, 2]",
            "probabilities",
        ),
    ] {
        let path = folder.path().join(format!("{name}.safetensors"));
        write(&path, &[("x", &x), ("y", &y)]);
        let [weights, arch] = ["weights.safetensors", "model.json"].map(|file| fixture("logistic-ce", file));
        let line = at(folder.path(), &format!("--data tensors:{} --out {{out}}", path.display()));
        let line = format!("analyze {} --arch {} {line}", weights.display(), arch.display());
        if hint.is_empty() {
            let outcome = flatness(&line);
            assert!(outcome.code == 2 && outcome.err.matches("error:").count() == 1, "{}", outcome.err);
        } else {
            assert_refused(&line, named, hint);
        }
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn a_product_beyond_single_precision() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    // At weights of 0 the loss does not see that the third row's square is 1e40.
    let mut x = vec![1.0; 24];
    x[12..18].fill(1e20);
    let x = Tensor::from_vec(x, (4, 6), &Device::Cpu).unwrap();
    let zeros = |shape: &[usize]| Tensor::zeros(shape, DType::F64, &Device::Cpu).unwrap();
    write(path("data").as_ref(), &[("x", &x), ("y", &zeros(&[4, 3]))]);
    write(path("weights").as_ref(), &[("0.weight", &zeros(&[3, 6])), ("0.bias", &zeros(&[3]))]);
    let arch = fixture("logistic-ce", "model.json");
    let line = format!("{} --arch {} --data tensors:{} --loss mse", path("weights"), arch.display(), path("data"));
    let line = format!("analyze {line} {} --out {}", crate::support::CHEAP, path("out"));
    assert_refused(&line, "number of rows 1, the first at position 2)", "--dtype f64");
    assert!(!folder.path().join("out").exists());
    succeed(&format!("{line} --dtype f64"));
}

#[test]
fn arguments() {
    let folder = tempfile::tempdir().unwrap();
    let logistic = fixture_arguments("logistic-ce");
    let [weights, arch] = ["weights.safetensors", "model.json"].map(|file| fixture("logistic-ce", file));
    let no_data = format!("{} --arch {}", weights.display(), arch.display());
    std::fs::write(folder.path().join("file"), "").unwrap();
    let glyphs = "--model mlp:4 --data glyphs --rows 0..8";
    for (line, named, hint) in [
        (format!("analyze {logistic} --probes 1"), "--probes 1", ""),
        (format!("analyze {logistic} --steps 0"), "--steps 0", ""),
        (format!("analyze {logistic} --tolerance NaN"), "--eig-tol NaN", ""),
        (format!("analyze {logistic} --trace-tol 0"), "--trace-tol 0", ""),
        (format!("analyze {logistic} --max-time -1"), "--max-time -1: must be a number of seconds", ""),
        (format!("analyze {logistic} --eig-tol -1"), "--eig-tol -1: must be between 0 and 1", ""),
        (format!("sharpness {logistic} --target -1"), "--target -1: must be above 0", ""),
        (format!("analyze {logistic} --save-every -0.5"), "--save-every -0.5: must be a number of seconds", ""),
        (format!("analyze {logistic} --method power --max-time 9"), "--max-time with --method power", ""),
        (format!("analyze {logistic} --method power --resume"), "--resume with --method power", ""),
        (format!("analyze {logistic} --max-matvecs 5"), "a budget of 5 products is too small", "products or more"),
        (format!("analyze {logistic} --scope layer:absent"), "scope `layer:absent` has no parameters", "there is"),
        (format!("analyze {logistic} --scope kind:gain"), "unknown kind `gain`", "kind:weight"),
        (format!("analyze {logistic} --slice-points {}", usize::MAX), "--slice-points", ""),
        (format!("analyze {logistic} --plane-points 5000"), "--plane-points 5000", ""),
        (format!("analyze {logistic} --loss crossentropy"), "did you mean cross-entropy", ""),
        (format!("analyze {logistic} --loss cross-entropy:2"), "`label_smoothing` is 2", ""),
        (format!("analyze {logistic} --operator hesian"), "unknown curvature `hesian`", "did you mean `hessian`?"),
        (format!("analyze {logistic} --dtype f16"), "f16", ""),
        (format!("analyze {logistic} --threads 0"), "--threads 0", ""),
        (format!("analyze {logistic} --memory 1KiB"), "at least 16MiB", ""),
        (format!("analyze {logistic} --memory 2XB"), "units are", ""),
        (format!("analyze {no_data}"), "does not record which data", "--data"),
        (format!("train {glyphs} --optimizer fsgdl"), "unknown optimizer `fsgdl`", "did you mean `fsgld`?"),
        (format!("train {glyphs} --optimizer zzz"), "unknown optimizer `zzz`", "sgld"),
        (format!("train {glyphs} --optimizer sam:radius=1"), "radius", "sam:rho"),
        (format!("train {glyphs} --optimizer sgld --momentum 0.9"), "sgld has no momentum", ""),
        (format!("train {glyphs} --schedule cosinus"), "`cosinus`", "`cosine`"),
        (format!("train {glyphs} --learning-rate 0"), "`learning_rate` is 0", ""),
        (format!("train {glyphs} --batch-size 0"), "`batch_size` is 0", ""),
        ("train --model mpl:4 --data glyphs".to_owned(), "unknown model `mpl`", "did you mean `mlp`?"),
        ("train --model mlp:4x --data glyphs".to_owned(), "`4x` is neither widths", "mlp:512-256"),
        ("train --model cnn:1-1-1-1-1-1 --data glyphs".to_owned(), "too small", "cnn:8-16"),
        ("train --model resnet-cifar:6000002 --data glyphs".to_owned(), "above 10000", "resnet18"),
        ("train --model mlp:99999999 --data glyphs".to_owned(), "do not fit the memory", ""),
        ("train --model mlp:99999999999 --data glyphs".to_owned(), "too large", "2^36"),
        ("train --model mlp:4".to_owned(), "--data is missing", "--data glyphs"),
        ("train --model {absent.toml} --data glyphs".to_owned(), "absent.toml", "--model"),
        ("trian".to_owned(), "a similar subcommand exists: 'train'", ""),
    ] {
        let out = if line == "trian" { "" } else { " --out {out}" };
        assert_refused(&at(folder.path(), &format!("{line}{out}")), named, hint);
        assert_eq!(files(folder.path()).len(), 1, "{line}");
        assert!(!folder.path().join("out").exists(), "{line}");
    }
}

#[test]
fn a_loss_that_diverges_names_step_and_epoch_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let line = "train --model mlp:8 --data glyphs --rows 0..32 --batch-size 16 --epochs 9 --learning-rate 1e30";
    let line = at(folder.path(), &format!("{line} --weight-decay 0 --out {{out}}"));
    assert_refused(&line, "not finite at epoch 1, step 2", "lower the learning rate");
    assert!(!folder.path().join("out").exists());
}

#[test]
fn outputs_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    let logistic = fixture_arguments("logistic-ce");
    let expected = fixture("logistic-ce", "expected.safetensors").display().to_string();
    let commands = [
        format!("analyze {logistic} {}", crate::support::CHEAP),
        format!("train {}", crate::support::TRAINING),
        "quickstart".to_owned(),
    ];
    for command in &commands {
        for out in ["{file}", "{file/deeper/out}"] {
            let line = at(folder.path(), &format!("{command} --out {out}"));
            assert_refused(&line, "file is a file, but --out names a folder", "choose another --out");
        }
        if cfg!(target_os = "linux") {
            // Not even root can make a folder there.
            assert_refused(&format!("{command} --out /proc/flatness/out"), "cannot write /proc/flatness/out", "--out");
        }
    }
    for (out, named) in [("{}", "is a folder, but --out names a file"), ("{absent/p.safetensors}", "cannot write")] {
        let line = at(folder.path(), &format!("matvec {logistic} --vectors {expected} --out {out}"));
        assert_refused(&line, named, "--out");
    }
    assert_eq!(files(folder.path()), [folder.path().join("file")]);
}

#[test]
fn running_statistics_come_in_pairs() {
    let folder = tempfile::tempdir().unwrap();
    let model = std::fs::read_to_string(fixture("cnn-bn-relu-ce", "model.json")).unwrap();
    let model = serde_json::from_str::<serde_json::Value>(&model).unwrap().to_string();
    std::fs::write(folder.path().join("half.json"), model.replace(r#","running_var":"1.running_var""#, "")).unwrap();
    let weights = fixture("cnn-bn-relu-ce", "weights.safetensors");
    let line = at(folder.path(), &format!("info {} --arch {{half.json}}", weights.display()));
    assert_refused(&line, "`running_mean` and `running_var` belong together", "compare the layer's fields");
}

#[test]
fn vectors_of_matvec() {
    let folder = tempfile::tempdir().unwrap();
    let nan = (counting(&[2, 21]) / 0.0).unwrap();
    for (name, vectors) in [("shape", counting(&[2, 20])), ("rank", counting(&[21])), ("nan", nan)] {
        write(&folder.path().join(name), &[("vectors", &vectors)]);
    }
    write(&folder.path().join("name"), &[("v", &counting(&[2, 21]))]);
    for (name, named, hint) in [
        ("shape", "vectors have shape [2, 20], but the network has 21 parameters", "vectors"),
        ("rank", "vectors have shape [21], but the network has 21 parameters", "vectors"),
        ("nan", "`vectors` holds 42 values that are not finite", "values"),
        ("name", "has no tensor `vectors`; it has v", "rename"),
        ("absent", "absent", "check the path"),
    ] {
        let line = format!("matvec {} --vectors {{{name}}} --out {{products}}", fixture_arguments("logistic-ce"));
        assert_refused(&at(folder.path(), &line), named, hint);
        assert!(!folder.path().join("products").exists());
    }
}

#[test]
fn results_are_not_overwritten_without_force() {
    let folder = tempfile::tempdir().unwrap();
    let at = |line: &str| at(folder.path(), line);
    let train = at(&format!("train {} --out {{run}}", crate::support::TRAINING));
    let analyze = at(&format!("analyze {} {} --out {{run/flat}}", checkpoint().display(), crate::support::CHEAP));
    let vectors = folder.path().join("vectors");
    write(&vectors, &[("vectors", &counting(&[1, 21]))]);
    let matvec = at(&format!("matvec {} --vectors {{vectors}} --out {{products}}", fixture_arguments("logistic-ce")));
    let bytes = || files(folder.path()).iter().map(|path| std::fs::read(path).unwrap()).collect::<Vec<_>>();
    for (line, named) in [(train, "already holds a result"), (analyze, "already holds a result"), (matvec, "exists")] {
        succeed(&line);
        let before = bytes();
        assert_refused(&line, named, "--force");
        assert_eq!(bytes(), before, "{line}");
        succeed(&format!("{line} --force"));
    }
    assert_refused(&at("quickstart --out {run}"), "already holds a result", "--force");
    // A finished part of an unfinished quickstart is a result too.
    std::fs::rename(folder.path().join("run"), folder.path().join("sgd")).unwrap();
    assert_refused(&at("quickstart --out {}"), "sgd already holds a result", "--force");
}

#[test]
fn force_leaves_no_figure_of_the_result_before() {
    let folder = tempfile::tempdir().unwrap();
    let analyze = format!("analyze {} {} --out {{out}}", checkpoint().display(), crate::support::CHEAP);
    succeed(&at(folder.path(), &analyze));
    assert!(folder.path().join("out/figures/slices.svg").exists());
    succeed(&at(folder.path(), &format!("{} --force", analyze.replace("points 3", "points 0"))));
    assert!(!folder.path().join("out/figures/slices.svg").exists());
    assert!(folder.path().join("out/figures/spectrum.svg").exists());
}
