"""What docs/metaplasticity.md says whatever the rows are."""

QUESTION = """# What does metaplasticity do?

Does a network that scales its weights' steps by a metaplastic factor learn better, faster, from
fewer images or from worse labels than the same network with plain backprop? Does it keep what it
learned while it learns something else? There are three
[rules](../models/plasticity/metaplastic.py) for the factor.

`python -m models compare metaplasticity` leaves a row for each training; from those rows,
`python -m models report metaplasticity` makes this page."""

TASKS = """`two-tasks`: LeNet learns MNIST, then Fashion-MNIST, with one output layer for both.
`ten-tasks`: 784-2000-2000-10 learns MNIST ten times, each time with the pixels in another order.
[Synaptic Intelligence](../models/plasticity/synaptic_intelligence.py) is the reference: Zenke et
al. (2017) report 96.9 % on average after the ten tasks, with 20 epochs a task, where plain Adam
keeps 57.4 %. It is told where a task ends; the metaplastic rules are not. `consolidating`
follows Laborieux et al. (2021), who have it act on the hidden weights of binarised networks:
here it acts on the weights themselves, so that its figures say nothing of theirs. The networks
have no batch normalisation, whose averages would follow the last task, and the rule `kernel` has
nothing to act on where there is no convolution."""

METHOD = """Trials are paired: same seed, so same initialisation, same images in the same order,
same wrong labels. The learning rate is chosen by the baseline alone and each rule's strength at
that rate, with the same number of tries on clean images, two seeds a try that are never reported,
by the accuracy on 2,000 images of a validation split of 10 % of the training set. For one task a
try is shorter than what is reported: a strength that is good at first can be chosen and do harm
later, which then counts as harm. Where the best lay at the upper edge (of the two tasks' tries: at
either), the tries were moved on and the trials repeated, so that some constants had more tries than
are listed: the files keep them all, the page counts those listed. The test set is read once, at the
end of a trial that is reported, with the weights of the last epoch. No dropout, no augmentation;
batches of 128 (256 for the ten tasks), weight decay 5e-4, a warm-up over the first tenth and a
cosine to 0; for the tasks in turn a constant rate and no decay. The averages of batch normalisation
keep 0.9 of themselves at each step, where Keras' 0.99 would still hold a third of their initial
values after a hundred. Products are in bfloat16 and weights in float32, but for the two tasks,
which have all in float32. The VGG is trained on clean labels and many images alone."""
