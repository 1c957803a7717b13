"""What starts first, and how long the rest will take."""

from hypothesis import given
from hypothesis import strategies as st

from labctl.engine.plan import Plan
from labctl.engine.steps import Step, StepContext


def nothing(context: StepContext) -> None:
    pass


def step(id: str, *needs: str) -> Step:
    return Step(id, id.upper(), nothing, needs)


@given(
    st.lists(st.tuples(st.sets(st.integers(0, 30)), st.floats(0.1, 9)), max_size=12),
    st.integers(1, 4),
)
def test_a_forecast_lies_between_its_bounds(
    graph: list[tuple[set[int], float]], workers: int
) -> None:
    steps = [
        step(str(index), *(str(need) for need in needs if need < index))
        for index, (needs, _) in enumerate(graph)
    ]
    estimates: dict[str, float | None] = {str(i): spent for i, (_, spent) in enumerate(graph)}
    seconds = [spent for _, spent in graph]
    forecast = Plan(steps, estimates, workers).remaining(set(), {})
    if not graph:
        assert forecast is None
    else:
        assert forecast is not None
        assert forecast <= sum(seconds) + 1e-6
        assert forecast >= max(*seconds, sum(seconds) / workers) - 1e-6


def test_a_forecast_knows_what_runs_and_guesses_what_was_never_timed() -> None:
    steps = [step("a"), step("b", "a"), step("c", "a"), step("d", "b", "c")]
    plan = Plan(steps, {"a": 10, "b": 4, "c": None, "d": 2}, workers=2)  # c counts as 4
    assert plan.remaining(set(), {}) == 16
    assert plan.remaining(set(), {"a": 7}) == 9
    assert plan.remaining(set(), {"a": 99}) == 6  # late, so due any moment
    assert plan.remaining({"a", "b"}, {"c": 1}) == 5
    assert plan.remaining({"a", "b", "c", "d"}, {}) == 0
    assert Plan(steps, {}, 2).remaining(set(), {}) is None


def test_the_longest_path_starts_first() -> None:
    steps = [step("short"), step("long"), step("head"), step("tail", "head")]
    estimates: dict[str, float | None] = {"short": 1, "long": 5, "head": 1, "tail": 9}
    assert Plan(steps, estimates, 2).ready(set(), set()) == ["head", "long", "short"]


def test_priority_goes_before_the_longest_path() -> None:
    steps = [step("long"), Step("soon", "Soon", nothing, priority=1)]
    assert Plan(steps, {"long": 9, "soon": 1}, 2).ready(set(), set()) == ["soon", "long"]


def test_one_worker_keeps_the_order_given() -> None:
    steps = [step("a"), step("b"), step("c", "a")]
    assert Plan(steps, {"a": 1, "b": 1, "c": 9}, 1).ready({"a"}, {"a"}) == ["b", "c"]
