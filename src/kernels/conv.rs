//! placeholder until the direct kernels land
use super::Element;
/// geometry
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvGeometry { /// c
 pub in_channels: usize, /// o
 pub out_channels: usize, /// g
 pub groups: usize, /// k
 pub kernel: [usize;2], /// s
 pub stride: [usize;2], /// p
 pub padding: [usize;2], /// d
 pub dilation: [usize;2], /// i
 pub input: [usize;2] }
impl ConvGeometry {
    /// out
    pub fn output(&self) -> [usize;2] { [0,1].map(|a| (self.input[a]+2*self.padding[a]-self.dilation[a]*(self.kernel[a]-1)-1)/self.stride[a]+1) }
}
/// op
#[derive(Clone, Copy)]
pub struct Operand<'a, T> { /// d
 pub data: &'a [T], /// s
 pub stacked: bool }
fn naive<T: Element>(g: &ConvGeometry, n: usize, k: usize, sizes: [usize;3], mut f: impl FnMut(usize, usize, usize, usize)) {
    let [_, _, _] = sizes;
    let [oh, ow] = g.output(); let (cg, og) = (g.in_channels/g.groups, g.out_channels/g.groups);
    for d in 0..k { for s in 0..n { for o in 0..g.out_channels { for c in 0..cg { for i in 0..g.kernel[0] { for j in 0..g.kernel[1] { for y in 0..oh { for x in 0..ow {
        let (r, q) = (y*g.stride[0]+i*g.dilation[0], x*g.stride[1]+j*g.dilation[1]);
        if r < g.padding[0] || q < g.padding[1] { continue }
        let (r, q) = (r-g.padding[0], q-g.padding[1]);
        if r >= g.input[0] || q >= g.input[1] { continue }
        let ci = o/og*cg + c;
        f(d, ((s*g.in_channels+ci)*g.input[0]+r)*g.input[1]+q, ((o*cg+c)*g.kernel[0]+i)*g.kernel[1]+j, ((s*g.out_channels+o)*oh+y)*ow+x);
    }}}}}}}}
}
fn lens(g: &ConvGeometry, n: usize) -> [usize;3] { let [oh,ow]=g.output(); [n*g.in_channels*g.input[0]*g.input[1], g.out_channels*g.in_channels/g.groups*g.kernel[0]*g.kernel[1], n*g.out_channels*oh*ow] }
/// f
pub fn conv2d<T: Element>(g: &ConvGeometry, n: usize, k: usize, terms: &[(Operand<'_, T>, Operand<'_, T>)], out: &mut [T]) {
    let l = lens(g, n); out.fill(T::zero());
    for (x, w) in terms { naive::<T>(g, n, k, l, |d, xi, wi, yi| out[d*l[2]+yi] += x.data[if x.stacked {d*l[0]} else {0}+xi] * w.data[if w.stacked {d*l[1]} else {0}+wi]); }
}
/// f
pub fn conv2d_input_gradient<T: Element>(g: &ConvGeometry, n: usize, k: usize, terms: &[(Operand<'_, T>, Operand<'_, T>)], out: &mut [T]) {
    let l = lens(g, n); out.fill(T::zero());
    for (y, w) in terms { naive::<T>(g, n, k, l, |d, xi, wi, yi| out[d*l[0]+xi] += y.data[if y.stacked {d*l[2]} else {0}+yi] * w.data[if w.stacked {d*l[1]} else {0}+wi]); }
}
/// f
pub fn conv2d_weight_gradient<T: Element>(g: &ConvGeometry, n: usize, k: usize, terms: &[(Operand<'_, T>, Operand<'_, T>)], out: &mut [T]) {
    let l = lens(g, n); out.fill(T::zero());
    for (x, y) in terms { naive::<T>(g, n, k, l, |d, xi, wi, yi| out[d*l[1]+wi] += x.data[if x.stacked {d*l[0]} else {0}+xi] * y.data[if y.stacked {d*l[2]} else {0}+yi]); }
}
