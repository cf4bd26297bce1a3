use super::*;
use crate::container::{Archive, Pickle, archive};
use crate::data::testing::shared_data;
use crate::data::{Cifar10, DataSpec, Dataset, LabelError, Split, Targets};

/// Three rows of CIFAR-10 in the binary layout, classes 3, 9, 0; `name` with human labels beside them.
fn folder(name: &str, labels: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let records: Vec<u8> = [3, 9, 0].into_iter().flat_map(|label| [vec![label], vec![7; 3072]].concat()).collect();
    let data = folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::create_dir(folder.path().join("cifar-n")).unwrap();
    std::fs::write(data.join("data_batch_1.bin"), &records).unwrap();
    std::fs::write(data.join("test_batch.bin"), &records).unwrap();
    std::fs::write(folder.path().join(name), labels).unwrap();
    folder
}

fn load(folder: &Path, split: Split) -> crate::Result<Dataset> {
    let mut spec = DataSpec::new(Cifar10(folder.join("data")).into());
    (spec.split, spec.labels) = (split, Some("cifar10n:worse".parse().unwrap()));
    spec.load()
}

fn pt(clean: &[i64], worse: &[i64]) -> Vec<u8> {
    archive(&[("archive/data.pkl", &dictionary(&[("clean_label", clean), ("worse_label", worse)]))])
}

/// A pickle in the form of the published files: arrays of 64-bit integers by their keys.
fn dictionary(entries: &[(&str, &[i64])]) -> Vec<u8> {
    let text = |text: &str| [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat();
    let mut out = b"\x80\x02}(".to_vec();
    for (key, values) in entries {
        let data: String = values.iter().flat_map(|value| value.to_le_bytes()).map(char::from).collect();
        let len = u8::try_from(values.len()).unwrap();
        out.extend(text(key));
        out.extend(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85C\x01b\x87R(K\x01K");
        out.extend([len, 0x85]);
        out.extend(
            b"cnumpy\ndtype\nX\x02\0\0\0i8\x89\x88\x87R(K\x03X\x01\0\0\0<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb",
        );
        out.extend([&b"\x89c_codecs\nencode\n"[..], &text(&data), &text("latin1"), b"\x86Rtb"].concat());
    }
    out.extend(b"u.");
    out
}

fn labels(data: &Dataset) -> &[u32] {
    let Targets::Classes { labels, .. } = &data.targets else { panic!("no classes") };
    labels
}

#[test]
fn labels_are_found_beside_the_data_and_the_test_split_keeps_its_own() {
    for name in ["cifar-n/CIFAR-10_human.pt", "data/CIFAR-10_human.pt"] {
        let folder = folder(name, &pt(&[3, 9, 0], &[3, 1, 0]));
        let data = load(folder.path(), Split::Train).unwrap();
        assert_eq!((labels(&data), data.clean_labels.as_deref()), (&[3, 1, 0][..], Some(&[3, 9, 0][..])));
        assert_eq!(data.wrong_labels(), Some(1));
        let picked = data.select(&[2, 1]).unwrap();
        assert_eq!((picked.clean_labels.as_deref(), picked.wrong_labels()), (Some(&[0, 9][..]), Some(1)));
        let test = load(folder.path(), Split::Test).unwrap();
        assert_eq!((labels(&test), test.wrong_labels()), (&[3, 9, 0][..], None));
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let name = "cifar-n/CIFAR-10_human.pt";
    let error = |file: &[u8]| load(folder(name, file).path(), Split::Train).unwrap_err();
    let text = |file: &[u8]| error(file).to_string();
    assert!(text(&pt(&[3, 9], &[3, 1])).contains("has 2 labels, but the training split of `cifar10:"));
    let order = text(&pt(&[3, 0, 9], &[3, 1, 0]));
    assert!(order.contains("another order of rows") && order.ends_with("row 1 is of class 0 there, of class 9 here"));
    assert!(text(&pt(&[3, 9, 0], &[3, 10, 0])).ends_with("row 1: label 10 is not a class (0 to 9)"));
    assert!(text(&pt(&[3, 9, 0], &[3, -1, 0])).contains("label -1 is not a class"));
    assert!(text(b"no labels").contains("a file of CIFAR-N labels"));
    let evil = archive(&[("a/data.pkl", b"\x80\x02cposix\nsystem\nX\x02\0\0\0ls\x85R.")]);
    assert!(text(&evil).ends_with("it has no array `clean_label`"), "{}", text(&evil));
    let floats = archive(&[("a/data.pkl", &dictionary(&[("clean_label", &[1])])[..])]);
    assert!(text(&floats).ends_with("it has no array `worse_label`"));
    let missing = load(folder("other", b"").path(), Split::Train).unwrap_err();
    let crate::Error::Data(DataError::Labels(LabelError::NoFile { looked, .. })) = &missing else {
        panic!("{missing}")
    };
    assert_eq!(looked.len(), 6);
    assert!(missing.to_string().contains("looked for ") && missing.hint().unwrap().contains("cifar10n:worse:FILE"));
}

#[test]
fn text_form_round_trips() {
    for text in ["cifar10n:worse", "cifar10n:aggre:dir/a.pt", "cifar100n:noisy:C:\\a.parquet", "cifar10n:random3"] {
        assert_eq!(text.parse::<LabelSource>().unwrap().to_string(), text);
    }
    for text in ["", "cifar10n", "cifar10n:", "cifar10n:noisy", "cifar10n:worse:", "cifar10n:worsen", "worse"] {
        let error = text.parse::<LabelSource>().unwrap_err();
        assert_eq!(error.to_string(), format!("data: `{text}` is not a valid source of labels"));
    }
}

/// Shares of wrong labels as published (Wei et al. 2022, table 1), in rows of 50,000.
#[test]
fn published_files_have_their_published_noise() {
    let Some(folder) = shared_data("cifar-n") else { return };
    for (names, wrong) in SETS.iter().zip([20_104, 4_505, 8_617, 9_061, 8_820, 20_100]) {
        let read =
            |file: &str| LabelSource { set: names.set, file: None }.columns(&folder.join(file), 1 << 30).unwrap();
        let [clean, labels] = read(names.files[0]);
        assert_eq!([&clean, &labels], read(names.files[1]).each_ref(), "{}", names.text);
        assert_eq!(clean.len(), 50_000);
        assert_eq!(clean.iter().zip(&labels).filter(|(a, b)| a != b).count(), wrong, "{}", names.text);
    }
}

#[test]
fn published_labels_fit_the_real_images() {
    let Some(folder) = shared_data("cifar10") else { return };
    if shared_data("cifar-n").is_none() {
        return;
    }
    let mut spec = DataSpec::new(Cifar10(folder).into());
    (spec.labels, spec.rows) = (Some("cifar10n:worse".parse().unwrap()), Some("100..160".parse().unwrap()));
    let data = spec.load().unwrap();
    let wrong = data.wrong_labels().unwrap();
    // Binomial with p = 0.402: 24.1 expected, standard deviation 3.8.
    assert!((9..=39).contains(&wrong), "{wrong}");
    let own = DataSpec { labels: None, ..spec }.load().unwrap();
    assert_eq!(data.clean_labels.as_deref(), Some(labels(&own)));
    assert_ne!(data.sha256, own.sha256);
    let Some(small) = shared_data("cifar10-small-bin") else { return };
    let spec = DataSpec { labels: "cifar10n:aggre".parse().ok(), ..DataSpec::new(Cifar10(small).into()) };
    assert!(spec.load().unwrap_err().to_string().contains("has 50000 labels, but the training split of"));
}

/// The order of fine classes within coarse ones, against the coarse labels that CIFAR-100N publishes.
#[test]
fn coarse_classes_are_those_of_the_published_lists() {
    let Some(folder) = shared_data("cifar-n") else { return };
    let file = std::fs::read(folder.join("CIFAR-100_human.pt")).unwrap();
    let opened = Archive::open(&file).unwrap();
    let pickle = opened.entry(opened.ending("/data.pkl").unwrap()).unwrap();
    let contents = Contents::read(&file).unwrap();
    let fine = integers(&contents.entries["clean_label"], &file).unwrap();
    let read = Pickle::read(pickle).unwrap();
    let mut entries = read.entries(read.root()).iter();
    let (_, list) = entries.find(|(key, _)| read.text(*key) == Some("clean_coarse_label")).unwrap();
    let coarse: Vec<i64> = read.items(*list).unwrap().iter().map(|&item| read.int(item).unwrap()).collect();
    assert_eq!(coarse.len(), fine.len());
    for (&fine, &coarse) in fine.iter().zip(&coarse) {
        assert_eq!(i64::from(crate::data::source::COARSE[fine as usize]), coarse);
    }
}
