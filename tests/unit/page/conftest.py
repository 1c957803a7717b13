"""What all tests of the page need."""

# The page's threads import it when they first need it: the OpenStack SDK. In a test they would do
# that while pytest puts its filters of warnings on and off, which are those of all threads.
import labctl.actions.lessons  # noqa: F401
