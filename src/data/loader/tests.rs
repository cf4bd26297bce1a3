use super::*;
use crate::data::TargetBatch;
use crate::data::{DataError, Targets};

/// 3x4x4 images of bytes that differ, labels that say the row.
fn data(rows: usize) -> Dataset {
    let bytes = (0..rows * 48).map(|i| (i * i % 251) as u8).collect();
    let targets = Targets::Classes { labels: (0..rows as u32).collect(), num_classes: rows };
    Dataset::new("test".into(), vec![3, 4, 4], Inputs::Bytes(bytes), targets, None).unwrap()
}

fn plan(order: Vec<usize>, threads: usize, augmentation: Option<&str>) -> EpochPlan {
    let augmentation = augmentation.map(|text| text.parse().unwrap());
    EpochPlan { order, batch_size: 40, dtype: DType::F32, augmentation, seed: 3, epoch: 2, threads }
}

fn order(rows: usize) -> Vec<usize> {
    (0..rows).map(|i| i * 7 % rows).collect()
}

fn collect(data: &Dataset, plan: &EpochPlan) -> Vec<(Vec<usize>, Vec<f32>)> {
    with_batches(data, plan, |batches| {
        batches
            .map(|batch| {
                let batch = batch?;
                let TargetBatch::Classes(labels) = &batch.targets else { panic!("no classes") };
                assert!(labels.iter().zip(&batch.rows).all(|(&label, &row)| label as usize == row));
                Ok((batch.rows, batch.x.flatten_all()?.to_vec1()?))
            })
            .collect()
    })
    .unwrap()
}

#[test]
fn batches_have_the_bits_of_the_data_set_in_the_order_of_the_plan() {
    let data = data(300);
    for threads in [1, 3] {
        let batches = collect(&data, &plan(order(300), threads, None));
        assert_eq!(batches.iter().map(|(rows, _)| rows.len()).collect::<Vec<_>>(), [40, 40, 40, 40, 40, 40, 40, 20]);
        assert_eq!(batches.iter().flat_map(|(rows, _)| rows.clone()).collect::<Vec<_>>(), order(300));
        for (rows, x) in &batches {
            let (expected, _) = data.batch(rows, DType::F32, &Device::Cpu).unwrap();
            assert_eq!(*x, expected.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        }
    }
}

#[test]
fn augmented_batches_depend_on_neither_threads_nor_batches() {
    let data = data(300);
    let reference = collect(&data, &plan(order(300), 1, Some("crop:1,flip")));
    assert_eq!(reference, collect(&data, &plan(order(300), 4, Some("crop:1,flip"))));
    let whole = EpochPlan { batch_size: 300, ..plan(order(300), 2, Some("crop:1,flip")) };
    let joined: Vec<f32> = reference.iter().flat_map(|(_, x)| x.clone()).collect();
    assert_eq!(joined, collect(&data, &whole)[0].1);
    assert_ne!(joined, collect(&data, &plan(order(300), 1, None)).into_iter().flat_map(|(_, x)| x).collect::<Vec<_>>());
    let other_epoch = EpochPlan { epoch: 3, ..plan(order(300), 1, Some("crop:1,flip")) };
    assert_ne!(reference, collect(&data, &other_epoch));
}

#[test]
fn no_more_is_prepared_than_the_look_ahead() {
    let data = data(4000);
    let plan = plan(order(4000), 2, Some("flip"));
    let shared = Shared::new(&data, &plan);
    // Two chunks of 16 rows for each of two threads: 64 rows are two batches of 40, and one besides.
    assert_eq!(shared.ahead, 3);
    with_batches(&data, &plan, |batches| {
        for taken in 1..=10 {
            batches.next().unwrap()?;
            std::thread::sleep(Duration::from_millis(2));
            let state = batches.shared.lock();
            assert!(state.slots.len() <= 3 && state.next.0 <= taken + 3, "{:?}", state.next);
        }
        assert!(batches.waited() > Duration::ZERO);
        // Left early: the threads end with the function.
        Ok(())
    })
    .unwrap();
}

#[test]
fn errors_come_in_place_of_their_batch_or_before_all() {
    let data = data(100);
    let refused = |plan: &EpochPlan| with_batches(&data, plan, |_| Ok(())).unwrap_err();
    let error = refused(&plan(vec![0, 100], 1, None));
    assert!(matches!(error, Error::Data(DataError::NoSuchRow { row: 100, num_rows: 100 })));
    assert!(refused(&EpochPlan { dtype: DType::U8, ..plan(vec![0], 1, None) }).to_string().contains("batch"));
    assert!(refused(&plan(vec![0], 1, Some("random_resized_crop:8"))).to_string().contains("4x4 pixels"));
    let stopped = with_batches(&data, &plan(order(100), 2, None), |batches| {
        batches.next().unwrap()?;
        Err::<(), _>(Error::Interrupted)
    });
    assert!(matches!(stopped, Err(Error::Interrupted)));
    let none = with_batches(&data, &plan(Vec::new(), 2, None), |batches| Ok(batches.count())).unwrap();
    assert_eq!(none, 0);
}

#[test]
fn a_panic_of_the_consumer_ends_the_threads() {
    let data = data(2000);
    let run = || with_batches(&data, &plan(order(2000), 2, None), |_| -> Result<()> { panic!("on purpose") });
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)).is_err());
}
