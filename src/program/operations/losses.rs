//! Losses that a network computes itself, out of other operations.

use super::{
    Add, Compare, Comparison, Extremum, Function, Gather, LogSoftmax, Mean, Mul, Squeeze, Sub, Sum, Unsqueeze, Where,
};
use crate::program::{Call, Operand, Results};

/// Reads a call of this family.
pub(super) fn read(call: &mut Call<'_>) -> Option<Results> {
    Some(match call.name {
        "mse_loss" => squares(call),
        "l1_loss" => distances(call),
        "smooth_l1_loss" => huber(call, "beta"),
        "huber_loss" => huber(call, "delta"),
        "binary_cross_entropy_with_logits" => logits(call),
        "binary_cross_entropy" => probabilities(call),
        "kl_div" => divergence(call),
        "cross_entropy_loss" | "nll_loss" | "nll_loss_nd" | "nll_loss2d" => classes(call),
        _ => return None,
    })
}

/// Losses as they are, their mean or their sum.
fn reduced(call: &mut Call<'_>, losses: Operand, rank: usize) -> Results {
    let (dim, keepdim) = ((0..rank as i64).collect(), false);
    match call.int("reduction", Some(1))? {
        0 => Ok(vec![losses]),
        1 => call.gives(Mean { dim, keepdim }, [losses]),
        _ => call.gives(Sum { dim, keepdim }, [losses]),
    }
}

/// Input and target, their difference, and how many axes they have.
fn difference(call: &mut Call<'_>) -> Result<(Operand, usize), String> {
    let (x, target) = (call.operand("self")?, call.operand("target")?);
    let rank = call.rank(&x)?.max(call.rank(&target)?);
    Ok((call.push(Sub {}, [x, target]), rank))
}

fn squares(call: &mut Call<'_>) -> Results {
    let (difference, rank) = difference(call)?;
    let squares = call.push(Mul {}, [difference.clone(), difference]);
    reduced(call, squares, rank)
}

fn distances(call: &mut Call<'_>) -> Results {
    let (difference, rank) = difference(call)?;
    let distances = call.absolute(&difference);
    reduced(call, distances, rank)
}

/// `x²/2` up to `|x| = β`, then `β (|x| − β/2)`; divided by `β` for the smooth L1 loss.
fn huber(call: &mut Call<'_>, bound: &str) -> Results {
    let ((x, rank), beta) = (difference(call)?, call.number(bound)?.unwrap_or(1.0));
    let size = call.absolute(&x);
    let inner = call.push(Compare { comparison: Comparison::Lt }, [size.clone(), Operand::Number(beta)]);
    let square = call.push(Mul {}, [x.clone(), x]);
    let scale = if bound == "beta" { 1.0 / beta } else { 1.0 };
    let square = call.times(&square, 0.5 * scale);
    let outer = call.plus(&size, -0.5 * beta);
    let outer = call.times(&outer, beta * scale);
    let losses = call.push(Where {}, [inner, square, outer]);
    reduced(call, losses, rank)
}

/// `(1 − y) x + (1 + (p − 1) y) ln(1 + e^{−x})`
fn logits(call: &mut Call<'_>) -> Results {
    let (x, target) = (call.operand("self")?, call.operand("target")?);
    let rank = call.rank(&x)?;
    let negative = call.times(&x, -1.0);
    let mut softplus = call.apply(Function::Softplus, &negative);
    let weight = call.optional("pos_weight")?;
    if weight != Operand::None {
        let less_one = call.push(Sub {}, [weight, Operand::Number(1.0)]);
        let scaled = call.push(Mul {}, [target.clone(), less_one]);
        let factor = call.plus(&scaled, 1.0);
        softplus = call.push(Mul {}, [softplus, factor]);
    }
    let rest = call.times(&target, -1.0);
    let rest = call.plus(&rest, 1.0);
    let linear = call.push(Mul {}, [x, rest]);
    let losses = call.push(Add {}, [linear, softplus]);
    weighted(call, losses, rank)
}

/// Losses times the weights of their entries.
fn weighted(call: &mut Call<'_>, losses: Operand, rank: usize) -> Results {
    let weight = call.optional("weight")?;
    let losses = if weight == Operand::None { losses } else { call.push(Mul {}, [losses, weight]) };
    reduced(call, losses, rank)
}

/// `−y ln x − (1 − y) ln(1 − x)`, logarithms above −100.
fn probabilities(call: &mut Call<'_>) -> Results {
    let (x, target) = (call.operand("self")?, call.operand("target")?);
    let rank = call.rank(&x)?;
    let negative = call.times(&x, -1.0);
    let logs = [call.apply(Function::Log, &x), call.apply(Function::Log1p, &negative)];
    let rest = call.times(&target, -1.0);
    let rest = call.plus(&rest, 1.0);
    let terms = logs.into_iter().zip([target, rest]).map(|(log, share)| {
        let log = call.push(Extremum { largest: true }, [log, Operand::Number(-100.0)]);
        call.push(Mul {}, [log, share])
    });
    let terms: Vec<Operand> = terms.collect();
    let sum = call.push(Add {}, terms);
    let losses = call.times(&sum, -1.0);
    weighted(call, losses, rank)
}

/// `y (ln y − x)`, or `e^y (y − x)` where the target is a logarithm.
fn divergence(call: &mut Call<'_>) -> Results {
    let (x, target) = (call.operand("self")?, call.operand("target")?);
    let rank = call.rank(&x)?;
    let (share, log) = if call.flag("log_target", false)? {
        (call.apply(Function::Exp, &target), target)
    } else {
        let is_zero = call.push(Compare { comparison: Comparison::Eq }, [target.clone(), Operand::Number(0.0)]);
        let safe = call.push(Where {}, [is_zero, Operand::Number(1.0), target.clone()]);
        (target, call.apply(Function::Log, &safe))
    };
    let difference = call.push(Sub {}, [log, x]);
    let losses = call.push(Mul {}, [share, difference]);
    reduced(call, losses, rank)
}

/// The negative logarithm of the probability of each class; ignored ones count for nothing.
fn classes(call: &mut Call<'_>) -> Results {
    let (x, target) = (call.operand("self")?, call.operand("target")?);
    let ignored = call.int("ignore_index", Some(-100))?;
    let (weight, smoothing) = (call.optional("weight")?, call.number("label_smoothing")?.unwrap_or(0.0));
    call.only("weight", weight, Operand::None)?;
    call.only("label_smoothing", smoothing, 0.0)?;
    let reduction = call.int("reduction", Some(1))?;
    call.only("reduction", reduction, 0)?;
    if !call.is_whole(&target) {
        return Err("targets that are probabilities are not supported".into());
    }
    let dim = if call.rank(&x)? == 1 { 0 } else { 1 };
    let logs = if call.name.starts_with("nll") { x } else { call.push(LogSoftmax { dim }, [x]) };
    let counts = call.push(Compare { comparison: Comparison::Ne }, [target.clone(), Operand::Number(ignored as f64)]);
    let chosen = call.push(Where {}, [counts.clone(), target, Operand::Number(0.0)]);
    let chosen = call.push(Unsqueeze { dim }, [chosen]);
    let logs = call.push(Gather { dim }, [logs, chosen]);
    let logs = call.push(Squeeze { dim: vec![dim] }, [logs]);
    let losses = call.times(&logs, -1.0);
    call.gives(Where {}, [counts, losses, Operand::Number(0.0)])
}
