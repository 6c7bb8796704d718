"""Shows that the tests see a mistake: puts one in, and waits for a test to fail.

Each mutation changes one line of a copy of the checkout and runs the tests that should
mind. It is run by hand, for it takes minutes, when tests or library have changed much:

    python -m tests.mutations [part of a name ...]
"""

import argparse
import dataclasses
import pathlib
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]


@dataclasses.dataclass(frozen=True)
class Mutation:
    """One mistake.

    Attributes:
      name: what is wrong then.
      module: file under flax_gn/, or under experiments/ where it says so.
      old: text that occurs there once.
      new: what stands there instead.
      tests: arguments of pytest, the tests that should fail.
    """

    name: str
    module: str
    old: str
    new: str
    tests: tuple[str, ...]


TRAINED = "test_trained.py"
VALUES, GRAD, DEVICES = "test_values.py", "test_grad.py", "test_pmap_shard_map.py"
LIKE_FLAX = "test_drop_in.py"
EVERYWHERE = "test_convert_everywhere.py"
NORMS = "test_convert_norms.py"
LAB = "experiments/lab/"
RESULTS, SEARCH = f"{LAB}test_results.py", f"{LAB}test_search.py"
PILOT, PAPER = f"{LAB}test_pilot.py", f"{LAB}test_paper.py"

MUTATIONS = (
    Mutation(
        "unbiased variance in the reference",
        "_reference.py",
        "var = total((x - mean) ** 2) / m",
        "var = total((x - mean) ** 2) / jnp.maximum(m - 1, 1)",
        (VALUES, "-k", "4d_square"),
    ),
    Mutation(
        "unbiased variance",
        "_xla/_moments.py",
        "var = lax.max(var, constant(0, var))",
        "var = lax.max(var, constant(0, var)) * divisor / (divisor - 1)",
        (VALUES, "-k", "4d_square"),
    ),
    Mutation(
        "eps outside the root",
        "_xla/_arithmetic.py",
        "lax.rsqrt(lax.add(var, constant(problem.eps, var)))",
        "1 / (jnp.sqrt(var) + problem.eps)",
        (VALUES, "-k", "large_eps"),
    ),
    Mutation(
        "no pilot",
        "_xla/_moments.py",
        "near = pilot(problem, x).astype(problem.compute_dtype)",
        "near = 0 * pilot(problem, x).astype(problem.compute_dtype)",
        ("test_accuracy.py", "-k", "test_output and 10000.0"),
    ),
    Mutation(
        "a single value as the pilot",
        "_xla/_pilot.py",
        "return _median(*(_median(*values[i : i + 3]) for i in (0, 3, 6)))",
        "return values[0]",
        ("test_accuracy.py", "-k", "outlier_anywhere"),
    ),
    Mutation(
        "the mean rounded before it is subtracted",
        "_xla/_arithmetic.py",
        "return pilot, rstd, lax.mul(lax.neg(shift), rstd)",
        "return pilot + shift, rstd, 0 * rstd",
        ("test_accuracy.py", "-k", "test_output and 100000.0"),
    ),
    Mutation(
        "groups of strided channels",
        "_xla/_arithmetic.py",
        "return lax.reshape(repeated, (*rest, channels))",
        "return jnp.tile(per_group, channels // groups)",
        (VALUES, "-k", "consecutive"),
    ),
    Mutation(
        "a count of masked values that is one too large",
        "_xla/_moments.py",
        "count = group_sum(problem, kept.astype(x.dtype))",
        "count = group_sum(problem, kept.astype(x.dtype)) + 1",
        ("test_mask.py", "-k", "test_statistics_are_of_the_kept_values"),
    ),
    Mutation(
        "masked positions enter the sums",
        "_xla/_arithmetic.py",
        "return where(mask, lax.sub(widened(problem, x, mask), pilot))",
        "return lax.sub(widened(problem, x, mask), pilot)",
        (VALUES, "-k", "mask"),
    ),
    Mutation(
        "the gradient of gamma without x_hat",
        "_xla/_cpu.py",
        "sum_to(saved.gamma, sum_dz_x_hat)",
        "sum_to(saved.gamma, sum_dz)",
        (GRAD, "-k", "4d_2_groups"),
    ),
    Mutation(
        "the gradient of x without its last term",
        "_xla/_cpu.py",
        "lax.sub(lax.sub(lax.mul(dz, of_x), of_centred), rest)",
        "lax.sub(lax.mul(dz, of_x), rest)",
        (GRAD, "-k", "4d_2_groups"),
    ),
    Mutation(
        "the gradient of beta from kept positions alone",
        "_xla/_cpu.py",
        "sum_to(saved.beta, sum_dz)",
        "sum_to(saved.beta, sum_kept_dz)",
        (GRAD, "-k", "mask"),
    ),
    Mutation(
        "a gradient that forgets the activation",
        "_xla/_arithmetic.py",
        "return jax.vjp(problem.activation, z())[1](dy)[0]",
        "return dy + 0 * z()",
        ("test_activation.py", "-k", "composition and silu"),
    ),
    Mutation(
        "a function that rounds keeps its dtype",
        "_activations.py",
        "return y.astype(z.dtype)",
        "return y",
        ("test_activation.py", "-k", "may_round"),
    ),
    Mutation(
        "a tangent that forgets gamma's",
        "_xla/_op.py",
        "dz = lax.add(lax.mul(dz, coefficients.gamma), through_gamma)",
        "dz = lax.add(lax.mul(dz, coefficients.gamma), 0 * through_gamma)",
        ("test_jvp.py", "-k", "test_matches_the_oracle"),
    ),
    Mutation(
        "statistics kept once per position for the backward pass",
        "_xla/_op.py",
        "saved = Saved(x, gamma, beta, mask, moments)\n    return linear_call",
        "wide = moments.pilot + 0 * x[..., :1].astype(jnp.float32)\n"
        "    saved = Saved(x, gamma, beta, mask, moments._replace(pilot=wide))\n"
        "    return linear_call",
        ("test_residuals.py", "-k", "test_residuals_are_the_input and plain"),
    ),
    Mutation(
        "devices that weigh the same whatever they keep",
        "_xla/_devices.py",
        "shift = jnp.sum(counts * means, 0, keepdims=True) / count",
        "shift = jnp.mean(means, 0, keepdims=True)",
        (DEVICES, "-k", "spatial_mask or spatial_empty"),
    ),
    Mutation(
        "a result about a device's own pilot, not the one agreed on",
        "_xla/_cpu.py",
        "centre = centre if problem.axis_name is None else _stored(near)",
        "centre = centre if problem is not None else _stored(near)",
        (DEVICES, "-k", "AxisName and spatial-xla"),
    ),
    Mutation(
        "devices that do not share the sums of the backward pass",
        "_xla/_devices.py",
        "sums = sum_over_devices(problem, tuple(totals))",
        "sums = tuple(totals)",
        (DEVICES, "-k", "AxisName and spatial-xla"),
    ),
    Mutation(
        "parameters shared by devices, their gradients not",
        "_call.py",
        "return of_jax.vary(value, missing) if missing else value",
        "return value if missing else value",
        (DEVICES, "-k", "TestBatch and shard_map"),
    ),
    Mutation(
        "few positions: the gradients of gamma and beta changed over",
        "_xla/_gpu.py",
        "return dx.astype(saved.x.dtype), sum_dz_x_hat, sum_dz",
        "return dx.astype(saved.x.dtype), sum_dz, sum_dz_x_hat",
        ("test_platforms.py", "-k", "gpu and few"),
    ),
    Mutation(
        "few positions: samples of a block left out",
        "_xla/_gpu_rows.py",
        "sums = jnp.sum(blocks, tuple(range(1, blocks.ndim - 1)))",
        "sums = jnp.sum(blocks[:, 0], tuple(range(1, blocks.ndim - 2)))",
        ("test_platforms.py", "-k", "gpu and few"),
    ),
    Mutation(
        "few positions: gamma shared by all samples though it is not",
        "_xla/_gpu.py",
        "and all(math.prod(p.shape[:kept]) == 1 for p in saved[1:3] if p is not None)",
        "",
        ("test_platforms.py", "-k", "gpu and few_per_sample"),
    ),
    Mutation(
        "positions that are left over left out on a CPU",
        "_xla/_cpu_sums.py",
        "        return lax.add(first, last)\n",
        "        return first\n",
        ("test_sums.py", "-k", "cpu"),
    ),
    Mutation(
        "every part of a CPU's sums the first",
        "_xla/_arithmetic.py",
        "return lax.slice_in_dim(array, start, end, axis=axis)",
        "return lax.slice_in_dim(array, 0, end - start, axis=axis)",
        ("test_sums.py", "-k", "cpu"),
    ),
    Mutation(
        "rows on a GPU: positions of the last part left out",
        "_xla/_gpu_rows.py",
        "for start in range(0, positions, rows)]",
        "for start in range(0, positions - rows + 1, rows)]",
        ("test_platforms.py", "-k", "gpu and few"),
    ),
    Mutation(
        "rows on a GPU: every part of the positions the first",
        "_xla/_gpu_rows.py",
        "part(flattened, kept, start, end)",
        "part(flattened, kept, 0, end - start)",
        ("test_platforms.py", "-k", "gpu and few"),
    ),
    Mutation(
        "rows on a GPU: one of many left out",
        "_xla/_gpu_rows.py",
        "sum_last(of_rows, _MOST_ROWS_ADDED)",
        "sum_last(of_rows[..., 1:], _MOST_ROWS_ADDED)",
        ("test_platforms.py", "-k", "gpu and rows"),
    ),
    Mutation(
        "gamma folded into the offset twice",
        "_xla/_cpu.py",
        "offset = lax.mul(offset, gamma)",
        "offset = lax.mul(offset, gamma * gamma)",
        (VALUES, "-k", "4d_square"),
    ),
    Mutation(
        "a slope of mish that leaves z out",
        "_activations.py",
        "(gate + jnp.minimum(z, _ONE_FROM) * slope) * dz",
        "gate * dz",
        ("test_mish.py",),
    ),
    Mutation(
        "a group size taken for a number of groups",
        "_arguments.py",
        "return number if group_size is None else channels // number",
        "return number",
        (VALUES, "-k", "group_size"),
    ),
    Mutation(
        "an eps that is flushed to zero let through",
        "_arguments.py",
        "if number and not float(finfo.tiny) <= number <= float(finfo.max):",
        "if not 0 <= number <= float(finfo.max):",
        ("test_errors.py", "-k", "eps_tiny"),
    ),
    Mutation(
        "the result in x's dtype always",
        "_problem.py",
        'x.dtype if dtype is None else _arguments.floating_dtype("dtype", dtype)',
        "x.dtype",
        (VALUES, "-k", "bfloat16_to_float32"),
    ),
    Mutation(
        "conditioning that scales gamma and not beta",
        "_layers.py",
        "beta = None if beta is None else scale * beta.astype(scale.dtype)",
        "beta = None if beta is None else beta.astype(scale.dtype)",
        ("test_linen_modules.py", "-k", "conditioning"),
    ),
    Mutation(
        "one eps for the function and the layers",
        "nnx.py",
        "epsilon: float = 1e-6",
        "epsilon: float = 1e-5",
        ("test_nnx.py", "-k", "constructor"),
    ),
    Mutation(
        "statistics as wide as x alone",
        "_problem.py",
        "wide = compute_dtype(x.dtype, out_dtype)",
        "wide = compute_dtype(x.dtype)",
        (LIKE_FLAX, "-k", "wider_result"),
    ),
    Mutation(
        "a mask of two meanings read in one",
        "_operands.py",
        "if len({each.shape for each in readings}) > 1:",
        "if not readings:",
        (LIKE_FLAX, "-k", "two_meanings"),
    ),
    Mutation(
        "integers rounded before they are normalised",
        "_layers.py",
        "return jnp.asarray(x, _problem.compute_dtype(result)), result",
        "return jnp.asarray(x, result), result",
        (LIKE_FLAX, "-k", "integers"),
    ),
    Mutation(
        "a group size beside the default groups refused",
        "_layers.py",
        "if group_size is not None and num_groups == DEFAULT_GROUPS:",
        "if num_groups is None:",
        (LIKE_FLAX, "-k", "needs_no_word"),
    ),
    Mutation(
        "features of an instance norm sought in channels alone",
        "_layers.py",
        "groups = shape[-1] if last in features else 1",
        "groups = shape[-1]",
        (LIKE_FLAX, "-k", "feature_axes"),
    ),
    Mutation(
        "mapped axes wanted for init",
        "linen.py",
        "return None if layer.is_initializing() else layer.axis_name",
        "return layer.axis_name",
        (LIKE_FLAX, "-k", "initialises"),
    ),
    Mutation(
        "checkpoints with axes of size one refused",
        "linen.py",
        "stored = jnp.shape(value)",
        "stored = shape",
        (LIKE_FLAX, "-k", "checkpoints"),
    ),
    Mutation(
        "errors in the words of what a layer calls",
        "_words.py",
        "words = _Words(outer.caller, (names, *outer.names))",
        "words = _Words(caller, (names,))",
        (LIKE_FLAX, "-k", "speak_the_words and epsilon"),
    ),
    Mutation(
        "a linen module compiled into the op",
        "_activations.py",
        'if any(base.__name__ == "Module" for base in type(value).__mro__):',
        'if any(base.__name__ == "Modul" for base in type(value).__mro__):',
        ("test_layer_activations.py", "-k", "unbound"),
    ),
    Mutation(
        "arrays in closures compiled into the op",
        "_activations.py",
        "*(cell.cell_contents for cell in value.__closure__ or () if _is_set(cell)),",
        "",
        ("test_layer_activations.py", "-k", "closure or traced"),
    ),
    Mutation(
        "partials over 1 and over True taken for equal",
        "_activations.py",
        "tuple(type(v) for v in (*activation.args, *dict(keywords).values())),",
        "(),",
        ("test_layer_activations.py", "-k", "partials_over"),
    ),
    Mutation(
        "equal partials taken for different",
        "_activations.py",
        "activation = parts if _is_hashable(parts) else activation",
        "",
        ("test_layer_activations.py", "-k", "equal_partials"),
    ),
    Mutation(
        "epsilon in the root of an outer one",
        "weight_standardization.py",
        "jnp.sqrt(var + inside) / (jnp.sqrt(var) + eps)",
        "jnp.sqrt(var + inside) / jnp.sqrt(var + eps)",
        ("test_weight_standardization.py", "-k", "outside_the_root"),
    ),
    Mutation(
        "a subclass of batch norm converted with what it adds",
        "convert/_nnx_left.py",
        "    if defined:",
        "    if not kind:",
        (EVERYWHERE, "-k", "what_stays_computes and activation"),
    ),
    Mutation(
        "batch statistics of another kind unnamed",
        "convert/_nnx_left.py",
        "inside = isinstance(held.value, nnx.BatchStat)",
        "inside = False",
        (EVERYWHERE, "-k", "another"),
    ),
    Mutation(
        "a bound method of a converted norm overlooked",
        "convert/_nnx_left.py",
        "if id(batch_norm) in methods:",
        "if batch_norm in methods:",
        (EVERYWHERE, "-k", "bound"),
    ),
    Mutation(
        "norms in closures overlooked",
        "convert/_walk.py",
        "for child in gc.get_referents(cell):",
        "for child in ():",
        (EVERYWHERE, "-k", "closure"),
    ),
    Mutation(
        "norms in global variables overlooked",
        "convert/_walk.py",
        "            if not isinstance(child, type):",
        "            if isinstance(child, type):",
        (EVERYWHERE, "-k", "what_stays_is_named and global"),
    ),
    Mutation(
        "programs compiled before a conversion run on",
        "convert/_nnx.py",
        "        jax.clear_caches()",
        "        pass",
        (EVERYWHERE, "-k", "compiled_before"),
    ),
    Mutation(
        "statistics beside mean and var taken for a batch norm's",
        "convert/_linen.py",
        'if stats != {"mean", "var"}:',
        'if not stats >= {"mean", "var"}:',
        (NORMS, "-k", "another_kind"),
    ),
    Mutation(
        "groups that do not divide accepted by the converter",
        "convert/_groups.py",
        "if number < 1 or channels % number:",
        "if number < 1:",
        (NORMS, "-k", "does_not_divide"),
    ),
    Mutation(
        "another epsilon in resnet50_gn",
        "models/resnet.py",
        "resnet50_gn = partial(resnet50, norm=partial(GroupNorm, epsilon=1e-5))",
        "resnet50_gn = resnet50",
        (TRAINED, "-k", "gives and resnet50_gn"),
    ),
    Mutation(
        "another epsilon in BiT",
        "models/resnetv2.py",
        "partial(GroupNorm, epsilon=1e-5)",
        "partial(GroupNorm, epsilon=1e-6)",
        (TRAINED, "-k", "gives and 50x1"),
    ),
    Mutation(
        "another epsilon for the kernels of BiT",
        "models/resnetv2.py",
        "partial(WSConv, epsilon=1e-8)",
        "partial(WSConv, epsilon=1e-10)",
        (TRAINED, "-k", "gives and 50x1"),
    ),
    Mutation(
        "another epsilon in the autoencoder",
        "models/autoencoder.py",
        "MakeActivatedNorm = GroupNorm",
        "MakeActivatedNorm = partial(GroupNorm, epsilon=1e-5)",
        (TRAINED, "-k", "gives and autoencoder"),
    ),
    Mutation(
        "a stride that pads at the end",
        "models/resnet.py",
        "padding=[(size // 2, size // 2)] * 2",
        'padding="SAME"',
        (TRAINED, "-k", "gives and resnet50_gn"),
    ),
    Mutation(
        "a maximum that nothing around the image can win",
        "models/resnetv2.py",
        "((0, 0), (1, 1), (1, 1), (0, 0)))",
        "((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-jnp.inf)",
        (TRAINED, "-k", "gives and bit_file"),
    ),
    Mutation(
        "a halving that pads an odd side on both ends",
        "models/autoencoder.py",
        "padding=[(0, 1)] * 2",
        'padding="SAME"',
        (TRAINED, "-k", "gives and autoencoder"),
    ),
    Mutation(
        "kernels with height and width exchanged",
        "convert/_names.py",
        "4: (2, 3, 1, 0)",
        "4: (3, 2, 1, 0)",
        (TRAINED, "-k", "gives and resnet50_gn"),
    ),
    Mutation(
        "dense layers that are not transposed",
        "convert/_names.py",
        "2: (1, 0)",
        "2: (0, 1)",
        (TRAINED, "-k", "gives and autoencoder"),
    ),
    Mutation(
        "queries and keys exchanged",
        "models/autoencoder.py",
        'dense(name="query")(y), dense(name="key")(y)',
        'dense(name="key")(y), dense(name="query")(y)',
        (TRAINED, "-k", "gives and autoencoder"),
    ),
    Mutation(
        "a shortcut from before the norm",
        "models/resnetv2.py",
        'name="shortcut_conv")(y)',
        'name="shortcut_conv")(x)',
        (TRAINED, "-k", "gives and bit_file"),
    ),
    Mutation(
        "tensors that are left over in silence",
        "convert/_trained.py",
        "if missing or wrong or left:",
        "if missing or wrong:",
        (TRAINED, "-k", "head_can_be_left_out"),
    ),
    Mutation(
        "one standard error that decides",
        "experiments/lab/results.py",
        "ERRORS = 2.0",
        "ERRORS = 1.0",
        (RESULTS, "-k", "exceeds"),
    ),
    Mutation(
        "the spread of seeds in the place of their pairs'",
        "experiments/lab/results.py",
        "error = statistics.stdev(found.values)",
        "error = statistics.stdev(a.values)",
        (RESULTS, "-k", "exceeds"),
    ),
    Mutation(
        "a margin that is not asked for",
        "experiments/lab/results.py",
        "return Ruling.of(found.mean > by)",
        "return Ruling.of(found.mean > 0)",
        (RESULTS, "-k", "exceeds"),
    ),
    Mutation(
        "an undecided claim that hides one that failed",
        "experiments/lab/experiment.py",
        "for ruling in (Ruling.FAILED, Ruling.UNDECIDED):",
        "for ruling in (Ruling.UNDECIDED, Ruling.FAILED):",
        (RESULTS, "-k", "both_claims"),
    ),
    Mutation(
        "the worst rate of a search",
        "experiments/lab/search.py",
        'return min(tried, key=lambda row: row["error"])',
        'return max(tried, key=lambda row: row["error"])',
        (SEARCH, "-k", "alike"),
    ),
    Mutation(
        "a search that trains on what judges it",
        "experiments/lab/search.py",
        "held, kept = order[:HELD_OUT], order[HELD_OUT:]",
        "held, kept = order[:HELD_OUT], order[-HELD_OUT:]",
        (SEARCH, "-k", "does_not_train_on"),
    ),
    Mutation(
        "a search that is not resumed",
        "experiments/lab/search.py",
        "if args.resume and out.exists()",
        "if not args.resume and out.exists()",
        (SEARCH, "-k", "resumed"),
    ),
    Mutation(
        "a search that does not keep the order",
        "experiments/lab/search.py",
        'found.sort(key=lambda row: asked.index(row["config"]))',
        "found.reverse",
        (SEARCH, "-k", "resumed"),
    ),
    Mutation(
        "a pilot at a rate of its own",
        "experiments/lab/search.py",
        "of.rated or norm",
        "norm or of.rated",
        (SEARCH, "-k", "takes_the_searched"),
    ),
    Mutation(
        "a low precision that is sought",
        "experiments/lab/search.py",
        'else 1 - epoch["test_ap"]',
        'else epoch["test_ap"]',
        (SEARCH, "-k", "least_where"),
    ),
    Mutation(
        "a search for finetuning that has seen what judges it",
        "experiments/finetune/trial.py",
        "dataset = search.images()",
        'dataset = search.data.load("")',
        (SEARCH, "-k", "finetuning"),
    ),
    Mutation(
        "a search that looks at the strip of the record",
        "experiments/detection/trial.py",
        "test=Held(tiles.grid(held, of.shape)),",
        "test=sites.test,",
        (SEARCH, "-k", "strip"),
    ),
    Mutation(
        "a search of another network than the one it names",
        "experiments/depth/trial.py",
        "recipe.NETWORKS[network]",
        'recipe.NETWORKS["resnet"]',
        (SEARCH, "-k", "of_its_name"),
    ),
    Mutation(
        "a curve that is flat where it pauses",
        "experiments/lab/pilot.py",
        "            break\n",
        "            continue\n",
        (PILOT, "-k", "sentence"),
    ),
    Mutation(
        "a curve that is called flat while it falls",
        "experiments/lab/pilot.py",
        "errors[place] - errors[place + 1] >= FLAT",
        "errors[place + 1] - errors[place] >= FLAT",
        (PILOT, "-k", "sentence"),
    ),
    Mutation(
        "short runs that are called settled",
        "experiments/lab/pilot.py",
        "if steps >= start else",
        "if steps <= start else",
        (PILOT, "-k", "sentence"),
    ),
    Mutation(
        "a pilot held against the runs of another norm",
        "experiments/lab/pilot.py",
        'alike = ("norm", "network", "batch")',
        'alike = ("network", "batch")',
        (PILOT, "-k", "of_the_same"),
    ),
    Mutation(
        "runs of other options that are resumed",
        "experiments/lab/session.py",
        "if grown and all(",
        "if grown or all(",
        ("experiments/small_batch/test_session.py", "-k", "from_one_command"),
    ),
    Mutation(
        "a second seed before every cell has one",
        "experiments/paper.py",
        "return sorted(made, key=lambda config: config.seed)",
        "return made",
        (PAPER, "-k", "other_parts"),
    ),
    Mutation(
        "runs on an accelerator that do not stop in time",
        "experiments/paper.py",
        "until=lambda: over(deadline)",
        "until=lambda: False",
        (PAPER, "-k", "not_reached"),
    ),
    Mutation(
        "runs on an accelerator that begin anew",
        "experiments/paper.py",
        "resume=args.resume and",
        "resume=False and",
        (PAPER, "-k", "other_parts and norms"),
    ),
    Mutation(
        "epochs that do not fit into the time",
        "experiments/paper.py",
        "return min(MOST_EPOCHS, max(1, epochs))",
        "return MOST_EPOCHS",
        (PAPER, "-k", "time_decides"),
    ),
)


def is_seen(mutation: Mutation, checkout: pathlib.Path) -> bool:
    """Whether a test fails once the mutation is in the checkout, which it leaves."""
    inside = "" if mutation.module.startswith("experiments/") else "flax_gn"
    path = checkout / inside / mutation.module
    source = path.read_text()
    if source.count(mutation.old) != 1:
        raise SystemExit(
            f"mutations: {mutation.name!r} must change a text that occurs once in "
            f"{mutation.module}; it occurs {source.count(mutation.old)} times. The "
            "code has moved on: bring the mutation up to date."
        )
    path.write_text(source.replace(mutation.old, mutation.new))
    first, *rest = mutation.tests
    command = ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "--tb=no"]
    result = subprocess.run(
        [sys.executable, *command, f"tests/{first}", *rest],
        cwd=checkout,
        capture_output=True,
        text=True,
        check=False,
    )
    path.write_text(source)
    # 1: tests failed. Anything else but 0 would be no verdict: no test ran, say.
    if result.returncode not in (0, 1):
        raise SystemExit(result.stdout + result.stderr)
    return result.returncode == 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="only mutations whose name has these")
    names = parser.parse_args().names
    chosen = [m for m in MUTATIONS if not names or any(n in m.name for n in names)]
    survivors = []
    with tempfile.TemporaryDirectory() as folder:
        checkout = pathlib.Path(folder) / "checkout"
        ignored = shutil.ignore_patterns("__pycache__", ".*", "*.png", "*_subset.npz")
        shutil.copytree(ROOT, checkout, ignore=ignored)
        for mutation in chosen:
            seen = is_seen(mutation, checkout)
            print(f"{'seen' if seen else 'NOT SEEN':8}  {mutation.name}", flush=True)
            if not seen:
                survivors.append(mutation.name)
    if survivors:
        raise SystemExit(f"{len(survivors)} of {len(chosen)} mutations went unseen")
    print(f"all {len(chosen)} mutations were seen")


if __name__ == "__main__":
    main()
