"""The studies behind the documentation.

A study is a table of groups (groups.py). Each trial of a group is one short training. Its result is
one row of docs/results/<study>.csv (results.py). Any number of processes share the trials and may
be stopped at any moment (work.py). The pages are made from these rows (metaplasticity_page.py,
vgg_page.py). brainprop_page.py and training_page.py make tables from the cards of published models.
"""
