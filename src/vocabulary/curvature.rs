//! The curvature matrices by name.

names! {
    "curvature";
    /// Which symmetric matrix of the objective `Σ s_n / Σ w_n` over rows. Every row counts once: `w_n` = 1, `W = Σ w_n` their
    /// number; the formulas below hold for other weights too.
    ///
    /// The exact Fisher matrix of cross-entropy, with labels from the model's own softmax, is [`Curvature::Ggn`] (Martens
    /// 2020); the empirical Fisher matrix, at the data's labels, is another one (Kunstner, Balles & Hennig 2019).
    pub enum Curvature {
        /// Second derivative of the mean loss (and of the L2 term, where the objective has one).
        Hessian = "hessian",
        /// `(1/W) Σ J_nᵀ L_n J_n`, `L_n` the Hessian of `s_n` in the outputs (Schraudolph 2002), and the L2 term.
        Ggn = "ggn",
        /// `R = H − GGN = (1/W) Σ_n Σ_c ∂s_n/∂y_c ∇²y_c`, in one pass and so without cancellation. The L2 term is in the GGN.
        Residual = "residual",
        /// `(1/W) Σ g_n g_nᵀ / w_n`, `g_n = ∇s_n`, without the L2 term: the mean of `u_n u_nᵀ` over rows of weight `w_n`, `u_n =
        /// g_n / w_n` the gradient of a row's own mean. A row of weight 0 is left out.
        EmpiricalFisher = "empirical_fisher",
        /// `(1/W) Σ g̃_n g̃_nᵀ`, `g̃_n` the gradient of `−Σ √m log p(ỹ)` over the row's places, at labels `ỹ` drawn from the model's
        /// own softmax and with the masses `m` of their soft targets (1 without class weights): an unbiased estimate of the GGN
        /// without its L2 term. Cross-entropy only; label smoothing by itself plays no part in it.
        ///
        /// The draw depends on a seed and the row alone (where the softmax is equal to rounding), so that the matrix is
        /// fixed, however the rows are cut into batches.
        McFisher = "mc_fisher",
        /// `(1/W) Σ w_n (u_n − ḡ)(u_n − ḡ)ᵀ` with `u_n` as in the empirical Fisher matrix and their mean `ḡ = (1/W) Σ g_n`; an
        /// L2 term cancels.
        ///
        /// Shard forms belong to `A_s = (1/W_s) Σ_{n∈s} w_n (u_n − ḡ)(u_n − ḡ)ᵀ` with the mean `ḡ` of all rows, not the shard's
        /// own: so their mean is the matrix exactly.
        GradientCovariance = "gradient_covariance",
        /// `P^{-1/2} H P^{-1/2}`, `P` the diagonal preconditioner of Adam after a training's last step (Cohen et al. 2022): the
        /// eigenvalues are those of `P⁻¹H`, which is not symmetric; its eigenvectors are `P^{-1/2} y`, where the matrix has
        /// `y`.
        PreconditionedHessian = "preconditioned_hessian",
    }
}

impl Curvature {
    /// What it is, in a line for help texts.
    pub const fn about(self) -> &'static str {
        match self {
            Self::Hessian => "second derivative of the mean loss",
            Self::Ggn => "generalised Gauss-Newton matrix; for cross-entropy also the exact Fisher matrix",
            Self::Residual => "Hessian minus GGN",
            Self::EmpiricalFisher => "second moment of the per-sample gradients",
            Self::McFisher => "second moment of the gradients at labels drawn from the model",
            Self::GradientCovariance => "covariance of the per-sample gradients",
            Self::PreconditionedHessian => "Hessian in the units of Adam's steps",
        }
    }

    /// The name in figures.
    pub const fn title(self) -> &'static str {
        match self {
            Self::Hessian => "Hessian",
            Self::Ggn => "GGN",
            Self::Residual => "Hessian minus GGN",
            Self::EmpiricalFisher => "empirical Fisher",
            Self::McFisher => "Monte Carlo Fisher",
            Self::GradientCovariance => "gradient covariance",
            Self::PreconditionedHessian => "preconditioned Hessian",
        }
    }
}
