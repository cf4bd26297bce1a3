//! A sum by pieces, put together from those of all ranks.

use super::pieces::{PieceSum, Tree};
use crate::Result;
use crate::team::Team;

/// The sum of all ranks' pieces, on every rank, in the tree of one process: whoever has the left of two sums receives the right
/// one. Rank 0 has the root at last, and sends what it makes of it to all, with its word on whether to stop. `own` says how the pieces of this
/// rank ended, which are in `tree`.
///
/// # Errors
/// The first error in the order of the pieces; a message that is lost.
pub(super) fn assembled<R, S: PieceSum<R>>(
    team: &dyn Team,
    mut tree: Tree<S>,
    own: Result<()>,
) -> Result<Option<S::Whole>> {
    let (rank, mut level) = (team.rank(), 0);
    let mut failure = own.err();
    while tree.nodes(level) > 1 {
        for left in (0..tree.nodes(level)).step_by(2) {
            let right = left + 1;
            let [to, from] = [left, right].map(|place| team.owner(place << level, tree.leaves()));
            if right == tree.nodes(level) {
                tree.lift(level, left);
            } else if rank == from && from != to {
                let sum = tree.take(level, right);
                team.send_value(to, failure.as_ref().map_or(Ok(&sum), Err))?;
            } else if rank == to {
                let later = if from == to { Ok(tree.take(level, right)) } else { team.receive_value(from)? };
                let joined = later.and_then(|later: Option<S>| tree.join(level, left, later, S::merge));
                // What comes first in the order of the pieces is said.
                failure = failure.or(joined.err());
            }
        }
        level += 1;
    }
    let root = failure.map_or(Ok(()), Err).map(|()| tree.take(level, 0));
    let whole = root.and_then(|root| root.map(S::conclude).transpose());
    let whole = team.of_leader(whole)?;
    team.hear()?;
    Ok(whole)
}
