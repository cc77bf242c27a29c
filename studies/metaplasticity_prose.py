"""The text of docs/metaplasticity.md that does not depend on the results."""

QUESTION = """# What is the effect of metaplasticity?

A metaplastic network scales each step of its weights by a factor. The baseline is the same network
with the same optimizer and without the factor (back-propagation). Does the metaplastic network
learn better than the baseline, or faster? Does it need fewer images? Is it less sensitive to wrong
labels? Does it remember one task while it learns another? There are three
[rules](../models/plasticity/metaplastic.py) for the factor.

`python -m models compare metaplasticity` writes a row for each training.
`python -m models report metaplasticity` makes this page from these rows."""

TASKS = """`two-tasks`: LeNet learns MNIST, then Fashion-MNIST, with one output layer for both.
`ten-tasks`: a network with layers of 784, 2000, 2000 and 10 units learns MNIST ten times, each time
with the pixels in another order.

[Synaptic Intelligence](../models/plasticity/synaptic_intelligence.py) is the reference. Zenke et
al. (2017) report a mean accuracy of 96.9 % after the ten tasks, with 20 epochs for each task, where
Adam alone reaches 57.4 %. This method is told where a task ends. The metaplastic rules are not.

`consolidating` follows Laborieux et al. (2021). In their work it acts on the hidden weights of
binarised networks. Here it acts on the weights themselves, so these results say nothing about
theirs. The networks have no batch normalisation, because its moving averages would follow the last
task. The rule `kernel` has no effect on a network without convolutions."""

METHOD = """Trials are paired. Two trials with the same seed have the same initial weights, the same
images in the same order, and the same wrong labels.

The learning rate is chosen for the baseline alone, and the strength of each rule at that rate. Each
constant gets the same number of tries, on clean images, with two seeds that no reported trial has.
The criterion is the accuracy on 2,000 images of a validation split, which is 10 % of the training
set. For one task, a try is shorter than a reported trial. So a strength that is good at first can
be chosen and do harm later, and then this counts as harm. Where the best value was at the upper
edge of the tries (for two tasks: at either edge), other values were tried and the trials were
repeated. So some constants had more tries than the table lists. The files hold all of them, and the
page counts the listed ones.

The test set is read once, at the end of a reported trial, with the weights of the last epoch. There
is no dropout and no augmentation. Batches have 128 images (256 for the ten tasks), and the weight
decay is 5e-4. The learning rate rises over the first tenth of the steps, then follows a cosine to
0. Trials with several tasks use a constant rate and no weight decay. The moving averages of batch
normalisation keep a share of 0.9 at each step. With Keras' default of 0.99 they would still hold a
third of their initial values after a hundred steps. Products are computed in bfloat16 and weights
are kept in float32, except for the two tasks, which use float32 throughout. The VGG is trained only
on clean labels and many images."""
