//! Compares groups of minima: means over seeds, paired differences, and a verdict that states its conditions.

mod verdict;

use std::collections::BTreeSet;

use crate::random::{Purpose, substream};
use crate::statistics::{Difference, Interval, Sample, bootstrap_interval, holm, paired, unpaired};
use crate::vocabulary::Quantity;

/// A number of one member, with its own errors.
#[derive(Debug, Clone, PartialEq)]
pub struct MemberNumber {
    /// What it measures.
    pub quantity: Quantity,
    /// Its value.
    pub value: f64,
    /// Standard error of the computation; NaN where it does not apply.
    pub std_err_numeric: f64,
    /// Standard error from the choice of rows; NaN where unknown.
    pub std_err_data: f64,
    /// Whether it met its tolerance.
    pub converged: bool,
}

/// A trained network and what is known about it.
#[derive(Debug, Clone, Default)]
pub struct Member {
    /// Its group.
    pub group: String,
    /// Its seed.
    pub seed: u64,
    /// Name of its folder, for tables.
    pub folder: String,
    /// Hash of its checkpoint.
    pub checkpoint_sha256: String,
    /// Name of its architecture and number of parameters.
    pub architecture: (String, u64),
    /// What its curvature was computed for: hash of the rows, loss, reduction, decay, batch norm, precision.
    pub conditions: serde_json::Value,
    /// Settings of its training; null where they are unknown.
    pub training: serde_json::Value,
    /// The measured numbers.
    pub numbers: Vec<MemberNumber>,
}

impl Member {
    fn number(&self, quantity: &Quantity) -> Option<&MemberNumber> {
        self.numbers.iter().find(|number| number.quantity == *quantity && number.value.is_finite())
    }
}

/// Which tests are made, and how they are corrected.
#[derive(Debug, Clone, PartialEq)]
pub struct CompareOptions {
    /// The group that the others are compared with; `None` for the first.
    pub baseline: Option<String>,
    /// Whether every pair of groups is compared, not only those with the baseline.
    pub all_pairs: bool,
    /// The primary quantities: their tests have a Holm correction of their own. All others are exploratory.
    pub primary: Vec<Quantity>,
    /// The groups whose tests in these quantities are primary; `None` for all. Those of the others are exploratory.
    pub primary_groups: Option<Vec<String>>,
    /// Whether Holm's correction is made within each quantity instead.
    pub by_quantity: bool,
    /// Seed of bootstrap samples and random permutations.
    pub seed: u64,
}

impl Default for CompareOptions {
    fn default() -> Self {
        let primary = Quantity::PRIMARY.to_vec();
        Self { baseline: None, all_pairs: false, primary, primary_groups: None, by_quantity: false, seed: 0 }
    }
}

impl CompareOptions {
    fn is_primary(&self, quantity: &Quantity, group: &str) -> bool {
        let among = |groups: &Vec<String>| groups.iter().any(|own| own == group);
        self.primary.contains(quantity) && self.primary_groups.as_ref().is_none_or(among)
    }
}

/// One quantity in one group.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupNumbers {
    /// Seeds and values of the members that have it.
    pub values: Vec<(u64, f64)>,
    /// Their mean and standard deviation.
    pub sample: Sample,
    /// Half the width of the mean's 95 % `t` interval.
    pub half_width: f64,
    /// The 95 % bootstrap interval of the mean; NaN for a single member.
    pub bootstrap: Interval,
    /// Standard error of the mean from the members' numeric errors, which are independent and so average down.
    pub std_err_numeric: f64,
    /// Standard error of the mean from the choice of rows: all members saw the same rows, so it does not average down.
    pub std_err_data: f64,
    /// Number of members whose value did not converge.
    pub num_unconverged: usize,
}

impl GroupNumbers {
    /// Whether there are numbers, and all of them converged: what did not is neither drawn nor tested.
    pub fn is_resolved(&self) -> bool {
        self.sample.count > 0 && self.num_unconverged == 0
    }
}

/// One quantity in all groups.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantityNumbers {
    /// The quantity.
    pub quantity: Quantity,
    /// Its numbers in each group, in the order of [`Comparison::groups`].
    pub groups: Vec<GroupNumbers>,
}

/// The difference of two groups in one quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct GroupDifference {
    /// The quantity.
    pub quantity: Quantity,
    /// The first group.
    pub group: String,
    /// The group that is subtracted.
    pub baseline: String,
    /// Whether the test is primary: in a primary quantity, of a primary group.
    pub is_primary: bool,
    /// Whether members were paired by seed.
    pub is_paired: bool,
    /// Mean of the first group, over the members compared.
    pub mean: f64,
    /// Mean of the baseline, over the members compared.
    pub baseline_mean: f64,
    /// The difference with its interval and tests.
    pub difference: Difference,
    /// `p` of the `t` test after Holm's correction.
    pub p_holm: f64,
    /// The difference relative to the magnitude of the baseline's mean.
    pub relative: f64,
    /// Half the width of its interval, with the baseline's mean taken as exact.
    pub relative_half_width: f64,
}

impl GroupDifference {
    /// Whether it is significant at 95 % after the correction.
    pub fn is_significant(&self) -> bool {
        self.p_holm <= 0.05
    }
}

/// The result of a comparison.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// Names of the groups, in the order of first appearance.
    pub groups: Vec<String>,
    /// The networks compared.
    pub members: Vec<Member>,
    /// Quantities that at least one group has.
    pub quantities: Vec<QuantityNumbers>,
    /// The differences, pair by pair, of the quantities that are resolved in both groups.
    pub differences: Vec<GroupDifference>,
    /// The differences in words, pair by pair.
    pub verdicts: Vec<String>,
    /// What was left out and why, and under which conditions the numbers hold.
    pub notes: Vec<String>,
}

impl Comparison {
    /// Compares `members`; groups keep the order of their first members.
    pub fn new(members: Vec<Member>, options: &CompareOptions, mut notes: Vec<String>) -> Self {
        let mut groups: Vec<String> = Vec::new();
        for member in &members {
            if !groups.contains(&member.group) {
                groups.push(member.group.clone());
            }
        }
        let architectures: BTreeSet<_> = members.iter().map(|member| &member.architecture).collect();
        let alike = architectures.len() <= 1;
        let mut known: Vec<Quantity> = Vec::new();
        for number in members.iter().flat_map(|member| &member.numbers) {
            if !known.contains(&number.quantity) {
                known.push(number.quantity.clone());
            }
        }
        known.sort_by_key(Quantity::order);
        if !alike {
            let left_out: Vec<String> =
                known.iter().filter(|q| !q.is_of_any_architecture()).map(Quantity::label).collect();
            let names: Vec<String> =
                architectures.iter().map(|(name, count)| format!("{name} ({count} parameters)")).collect();
            notes.push(format!(
                "architectures differ ({}), so these are not compared: {}",
                names.join(", "),
                left_out.join(", ")
            ));
            known.retain(Quantity::is_of_any_architecture);
        }
        let quantities = known.into_iter().map(|quantity| numbers(&members, &groups, quantity, options.seed));
        let quantities: Vec<QuantityNumbers> =
            quantities.filter(|numbers| numbers.groups.iter().any(|group| group.sample.count > 0)).collect();
        let mut comparison = Self { groups, members, quantities, differences: Vec::new(), verdicts: Vec::new(), notes };
        comparison.compare(options);
        comparison
    }

    fn compare(&mut self, options: &CompareOptions) {
        let baseline = options.baseline.as_ref().and_then(|name| self.groups.iter().position(|group| group == name));
        let baseline = baseline.unwrap_or(0);
        let pairs: Vec<(usize, usize)> = if options.all_pairs {
            (0..self.groups.len()).flat_map(|b| (b + 1..self.groups.len()).map(move |a| (a, b))).collect()
        } else {
            (0..self.groups.len()).filter(|a| *a != baseline).map(|a| (a, baseline)).collect()
        };
        let mut number = 0;
        for row in &self.quantities {
            for (a, b) in &pairs {
                number += 1;
                let mut rng = substream(options.seed, Purpose::Signs, number);
                let (first, second) = (&row.groups[*a], &row.groups[*b]);
                if !(first.is_resolved() && second.is_resolved()) {
                    continue;
                }
                let (left, right, is_paired) = matched(first, second);
                let found = if is_paired { paired(&left, &right, &mut rng) } else { unpaired(&left, &right, &mut rng) };
                let Some(difference) = found else { continue };
                let size = second.sample.mean.abs();
                self.differences.push(GroupDifference {
                    quantity: row.quantity.clone(),
                    group: self.groups[*a].clone(),
                    baseline: self.groups[*b].clone(),
                    is_primary: options.is_primary(&row.quantity, &self.groups[*a]),
                    is_paired,
                    mean: Sample::of(&left).mean,
                    baseline_mean: Sample::of(&right).mean,
                    difference,
                    p_holm: f64::NAN,
                    relative: difference.difference / size,
                    relative_half_width: difference.half_width / size,
                });
            }
        }
        self.correct(options.by_quantity);
        self.notes.extend(verdict::not_resolved(self));
        self.notes.extend(verdict::least(self));
        // What decides comes first.
        let named = pairs.iter().map(|(a, b)| (&self.groups[*a], &self.groups[*b]));
        let decides = |(group, baseline): &(&String, &String)| {
            self.differences.iter().any(|row| row.is_primary && row.group == **group && row.baseline == **baseline)
        };
        let (first, others): (Vec<_>, Vec<_>) = named.partition(decides);
        let ordered = first.into_iter().chain(others);
        self.verdicts = ordered.flat_map(|(group, baseline)| verdict::words(self, group, baseline)).collect();
    }

    /// Holm's correction, over the primary and over the exploratory tests, or within each quantity.
    fn correct(&mut self, by_quantity: bool) {
        let family = |row: &GroupDifference| match by_quantity {
            true => row.quantity.to_string(),
            false => row.is_primary.to_string(),
        };
        let families: BTreeSet<String> = self.differences.iter().map(family).collect();
        for name in families {
            let own = |row: &GroupDifference| family(row) == name;
            let p_values: Vec<f64> =
                self.differences.iter().filter(|row| own(row)).map(|row| row.difference.p_t).collect();
            for (row, p) in self.differences.iter_mut().filter(|row| own(row)).zip(holm(&p_values)) {
                row.p_holm = p;
            }
        }
    }

    /// The difference of a pair in one quantity.
    pub fn difference(&self, quantity: &Quantity, group: &str, baseline: &str) -> Option<&GroupDifference> {
        let is = |row: &&GroupDifference| row.quantity == *quantity && row.group == group && row.baseline == baseline;
        self.differences.iter().find(is)
    }
}

/// Values at common seeds, if most seeds are common; otherwise all values of both groups, unpaired.
fn matched(a: &GroupNumbers, b: &GroupNumbers) -> (Vec<f64>, Vec<f64>, bool) {
    let seeds = |group: &GroupNumbers| group.values.iter().map(|(seed, _)| *seed).collect::<BTreeSet<_>>();
    let common: BTreeSet<u64> = seeds(a).intersection(&seeds(b)).copied().collect();
    let at = |group: &GroupNumbers| -> Vec<f64> {
        let mut values: Vec<(u64, f64)> =
            group.values.iter().filter(|(seed, _)| common.contains(seed)).copied().collect();
        values.sort_by_key(|(seed, _)| *seed);
        values.into_iter().map(|(_, value)| value).collect()
    };
    let all = |group: &GroupNumbers| group.values.iter().map(|(_, value)| *value).collect();
    // With more than half of the seeds in common, pairing gains more than the lost degrees of freedom cost.
    if common.len() >= 2 && 2 * common.len() > a.values.len().max(b.values.len()) {
        (at(a), at(b), true)
    } else {
        (all(a), all(b), false)
    }
}

fn numbers(members: &[Member], groups: &[String], quantity: Quantity, seed: u64) -> QuantityNumbers {
    let group = |(index, group): (usize, &String)| {
        let own: Vec<(u64, &MemberNumber)> = members
            .iter()
            .filter(|member| member.group == *group)
            .filter_map(|member| Some((member.seed, member.number(&quantity)?)))
            .collect();
        let values: Vec<f64> = own.iter().map(|(_, number)| number.value).collect();
        let sample = Sample::of(&values);
        let count = own.len().max(1) as f64;
        let known = |error: fn(&MemberNumber) -> f64| {
            own.iter().map(move |(_, number)| error(number)).filter(|error| error.is_finite())
        };
        let mut rng = substream(seed, Purpose::Bootstrap, index as u64);
        GroupNumbers {
            sample,
            half_width: sample.half_width(),
            bootstrap: bootstrap_interval(&values, &mut rng).unwrap_or(Interval::UNKNOWN),
            std_err_numeric: known(|number| number.std_err_numeric).map(|e| e * e).sum::<f64>().sqrt() / count,
            std_err_data: known(|number| number.std_err_data).sum::<f64>() / count,
            num_unconverged: own.iter().filter(|(_, number)| !number.converged).count(),
            values: own.iter().map(|(seed, number)| (*seed, number.value)).collect(),
        }
    };
    QuantityNumbers { groups: groups.iter().enumerate().map(group).collect(), quantity }
}

#[cfg(test)]
mod tests;
