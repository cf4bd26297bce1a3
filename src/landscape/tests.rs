//! Whole landscapes against closed forms: a linear network with squared error has a quadratic loss.
