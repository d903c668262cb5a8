"""Planted mistakes in the kernels of ffnn_gpu/backends/cuda/fused."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """With the only occurrence of `old` replaced by `new`, the check of a case with B rows must fail."""

    name: str
    old: str
    new: str
    case: str = "exact"
    B: int = 270
    in_memory: bool = False
    order: tuple = ("thread", 0)

    def text(self, code):
        """Return this text with the mistake. Like the launchers' text it is in ASCII."""
        old = self.old.encode("ascii", "replace").decode()
        assert code.count(old) == 1, self.name
        return code.replace(old, self.new)


REVERSED = ("reversed", 0)
MUTANTS = (
    Mutant(
        "no barrier before other warps read δ",
        "  __syncthreads();  // δ of all rows of the tile\n",
        "",
    ),
    Mutant(
        "no barrier before δ takes the place of a",
        "    __syncthreads();  // every warp has read a_l, whose place δ takes\n",
        "",
    ),
    Mutant(
        "no barrier before the next tile",
        "    __syncthreads();  // every warp has read a and δ, whose places the next tile takes\n",
        "", order=REVERSED,
    ),
    Mutant(
        "no barrier after the parameters are loaded",
        "  load_parameters<Net>(shared, parameters);\n  __syncthreads();\n  T* mine = shared + "
        "Net::template output<0>() + 16 * at.warp * Net::template pitch<0>();\n  double",
        "  load_parameters<Net>(shared, parameters);\n  T* mine = shared + Net::template output<0>() "
        "+ 16 * at.warp * Net::template pitch<0>();\n  double",
    ),
    Mutant(
        "rows read before the warp has written them",
        "    __syncwarp();\n    const Tile<T> tile",
        "    const Tile<T> tile",
    ),
    Mutant(
        "columns of A exchanged",
        "at.lane % 16) * Net::template pitch<0>() + at.lane / 16 * 8)",
        "at.lane % 16) * Net::template pitch<0>() + (1 - at.lane / 16) * 8)",
    ),
    Mutant(
        "factor B of W not transposed",
        "load_transposed(w, W + 16 * k * pitch + 8 * n);",
        "load_matrices(w, W + 16 * k * pitch + 8 * n);",
    ),
    Mutant(
        "factor B of Wᵀ transposed",
        "load_matrices(w, W + 8 * n * pitch + 16 * k);",
        "load_transposed(w, W + 8 * n * pitch + 16 * k);",
    ),
    Mutant(
        "second columns of a layer from the first ones",
        "multiply_add(T(), s[n + 1], a, w[2], w[3]);",
        "multiply_add(T(), s[n + 1], a, w[0], w[1]);",
    ),
    Mutant(
        "words in the order of rows",
        "words[n / 2][n % 2 * 2 + h] =\n",
        "words[n / 2][n % 2 + 2 * h] =\n",
    ),
    Mutant(
        "one row past the end",
        "B - row < 16 ? (int)(B - row) : 16;  // none",
        "B - row < 16 ? (int)(B - row) + 1 : 16;  // none",
    ),
    Mutant(
        "last rows of a batch left out",
        "start < B; start += (Index)gridDim.x * Net::ROWS",
        "start + Net::ROWS <= B; start += (Index)gridDim.x * Net::ROWS",
    ),
    Mutant(
        "second tile of a block left out",
        "start += (Index)gridDim.x * Net::ROWS) {\n    const Index row",
        "start += (Index)B) {\n    const Index row", B=300,
    ),
    Mutant(
        "δ of rows after the end",
        "const bool valid = at.g + 8 * h < rows;\n    words",
        "const bool valid = rows > -99;\n    words", case="classes", B=17,
    ),
    Mutant(
        "gradient of the bias lost",
        "multiply_add(T(), c[s], ones, B[2], B[3]);",
        "",
    ),
    Mutant(
        "gradient of the bias of the next column",
        "k + at.lane) * pitch + column * 8);",
        "k + at.lane) * pitch + (column ^ 1) * 8);",
    ),
    Mutant(
        "bias of the first column",
        "reinterpret_cast<const unsigned*>(b)[4 * n + at.t]",
        "reinterpret_cast<const unsigned*>(b)[4 * n]",
    ),
    Mutant(
        "parts of another warp",
        "const int part = at.warp * S + first + s;\n",
        "const int part = at.warp + first + s;\n", case="classes",
    ),
    Mutant(
        "rows of aᵀ exchanged",
        "(at.lane % 8 + at.lane / 16 * 8) * pitch_a + at.lane / 8 % 2 * 8,",
        "(at.lane % 8 + at.lane / 8 % 2 * 8) * pitch_a + at.lane / 16 * 8,",
    ),
    Mutant(
        "first tile adds to what was there",
        "first ? make_float4(0, 0, 0, 0) : place",
        "place", in_memory=True,
    ),
    Mutant(
        "sums of the last tile alone",
        "const float4 v = first ?",
        "const float4 v = true ?", B=300, in_memory=True,
    ),
    Mutant(
        "a block's sums left out",
        "for (int block = part; block < blocks;",
        "for (int block = part + 1; block < blocks;",
    ),
    Mutant(
        "parts of the sums not added",
        "for (int other = 1; other < THREADS / WARP; ++other)",
        "for (int other = 2; other < THREADS / WARP; ++other)",
    ),
    Mutant(
        "no barrier in the sums over blocks",
        "  __syncthreads();\n  if (part) return;",
        "  if (part) return;", order=REVERSED,
    ),
    Mutant(
        "sums of every layer in the first",
        "return sums<l - 1>() + 2 * parts<l - 1>() + columns<l - 1>();",
        "return sums<l - 1>() + 2 * parts<l - 1>();",
    ),
    Mutant(
        "derivative at the output for the pre-activation",
        "Below::KEEPS ? Net::template kept<l - 1>() : Net::template output<l>()",
        "Net::template output<l>()", case="half",
    ),
    Mutant(
        "largest logit of two lanes",
        "  top = largest(top, __shfl_xor_sync(ALL_LANES, top, 2));\n",
        "", case="classes",
    ),
    Mutant(
        "weight of the first row",
        "w[row + at.g + 8 * h] : 1.0) / total",
        "w[row] : 1.0) / total", case="classes",
    ),
    Mutant(
        "loss scale left out",
        "(factors.scale ? *factors.scale : 1.0)",
        "1.0", case="half",
    ),
    Mutant(
        "δ rounded before the slope of another row",
        "const float2 v = numbers_of(T(), *pair_at(of, Net::template pitch<l>(), h,",
        "const float2 v = numbers_of(T(), *pair_at(of, Net::template pitch<l>(), 1 - h,",
    ),
    Mutant(
        "prediction of the rows of another block",
        "row += (Index)gridDim.x * Net::ROWS) {\n    const int rows",
        "row += Net::ROWS) {\n    const int rows",
    ),
    Mutant(
        "words of the neighbour", "mine[2] = {odd ? word.z : word.x,", "mine[2] = {odd ? word.x : word.z,",
        case="dropout",
    ),
    Mutant(
        "rows of the batch alone",
        "random.row + (unsigned)tile.row",
        "(unsigned)tile.row", case="dropout",
    ),
    Mutant(
        "rate without its factor",
        "  const double p = rate * *factor;\n  return",
        "  const double p = rate;\n  return", case="dropout",
    ),
    Mutant(
        "bits of the first columns",
        "kept[n / 8] >> (n % 8 * 4 + 2 * h)",
        "kept[n / 8] >> (2 * h)", case="dropout",
    ),
    Mutant("derivative at the dropped output", "KEEPS = OF_INPUT || DROPOUT;", "KEEPS = OF_INPUT;",
           case="dropout"),
    Mutant(
        "masks not applied to the gradient",
        "if constexpr (Below::DROPOUT) drop<T>(da,",
        "if constexpr (false) drop<T>(da,", case="dropout",
    ),
    Mutant(
        "weight of the class left out of the gradient",
        "factor - of_class(c) * (c == label",
        "factor - (c == label", case="class weights",
    ),
    Mutant(
        "row of class weight 0 counted",
        "counts = valid && !(WEIGHTED && of_label == 0);",
        "counts = valid;", case="class weights",
    ),
)  # fmt: skip
