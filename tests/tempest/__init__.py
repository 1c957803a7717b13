"""`make tempest`: OpenStack's own tests, Tempest and neutron-tempest-plugin, against a lab of ours.

What they found is in docs/tests-of-others.md.
"""
