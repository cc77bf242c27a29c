"""The studies behind the documentation: what is compared, the work of it, and the pages it makes.

A study is a table of groups (plan.py), each trial of which is one short training that becomes one
row of docs/results/<study>.csv (results.py). Any number of processes share the work and may be
stopped at any moment (work.py). The pages are made from those rows alone (metaplasticity_page.py,
vgg_page.py; brainprop_page.py makes its table of published models).
"""
