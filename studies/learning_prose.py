# ruff: noqa: E501  (a row of a Markdown table is one line)
"""The fixed text of docs/learning.md."""

HOW = """# Learning from votes

People say whether an answer was right, by a thumb or by the right label. The service keeps these
votes while `METAPLASTIC_FEEDBACK` is set ([votes](feedback.md)). A learner beside the service reads them and makes a new
version of the model, the challenger. Gates decide whether it becomes the champion, which answers.

    export METAPLASTIC_FEEDBACK=sqlite:///feedback.db METAPLASTIC_DATA=/data
    python -m models learn mnist/lenet            # once
    python -m models learn mnist/lenet --watch    # stays, and learns when 100 new votes have come

`METAPLASTIC_WEIGHTS` names the model repository, as for the service. The learner needs the packages
of requirements.txt, the service does not. On a CPU it is fastest with `KERAS_BACKEND=torch`.

## What it learns

The learner always starts from the published version, never from an earlier challenger. So errors do
not add up, and a vote that was deleted is gone with the next challenger. The newest fifth of the
votes is held out. From the others it takes up to 5,000: the newest first, at most a tenth of the
places for one key, and at most twice its equal share for one class while others have votes. The
same store, seed, backend and number of threads give the same challenger.

The loss of a softmax network is `-log p` of the right class after a thumb up or a label, and
`-log(1 - p)` of the class that was answered after a thumb down. Beside home images, the
entropy of the other classes is added to the latter, so that the network decides between them. A
BrainProp network has `(r - q)^2 / 2` of the class that was answered, and of all classes after a
label. The averages of batch normalisation stay fixed, pictures are not augmented, and the weights
stay inside a ball around the published ones.

The home term keeps what the network knew. On training images of the data set, the challenger learns
the outputs of the published version beside the votes (distillation). The images come

1. from the data set, where `METAPLASTIC_DATA` has it;
2. otherwise from `home.npz` beside the published model: 1,000 training images, and the validation
   split for the gate. `python -m models learn mnist/lenet --pack-home` writes it where the data
   set is. It is made for MNIST (CC BY-SA 3.0), Fashion-MNIST (MIT) and your own data sets. CIFAR
   and Tiny ImageNet have no licence that allows it. This repository holds no such file;
3. otherwise there are none. Then the metaplastic rule `consolidating` protects the weights alone,
   and no challenger is promoted by itself, because the home gate has no images.

The challenger is a version like any other, with model.keras, model.onnx, calibration and energy
threshold. Its card says under `learned` from how many votes it comes, of which days, from which
parent, and by which settings. It has no test score: no choice is made on a test set.

## The gates

| gate | passes if |
| --- | --- |
| home | on the validation split, the one-sided 95 % bound of its loss against the *published* version is at most 0.1 points (0.3 on CIFAR) |
| stream | on the votes that were held out, the one-sided 95 % bound of its gain over the champion is above 0 |
| canary | among pictures on which both disagree, its answers get more thumbs up than the champion's, by a sequential test |

A challenger is promoted if it passes at home and in one of the other two. One that fails is never
asked. One that passes at home, while the others cannot tell, becomes the `challenger`: an admin may
promote it (`POST /api/<dataset>/<architecture>/promote`). With `METAPLASTIC_CANARY=0.1` it answers a
tenth of the pictures on which the two disagree, until the canary gate decides. Without, the next
challenger takes its place.

Thumbs on the champion's own answers cannot show that a challenger is better: where the champion was
wrong, nobody said whether the other answer is right. So the stream gate counts a gain only where a
label is known. It refuses a challenger only if the votes show a loss even when every such answer is
right.

The sequential test looks when the newer version has 10, 20, 40, ... 640 votes, by Fisher's exact
test. Each look spends a share of 5 %, in proportion to the votes (Kim and DeMets, 1987). Afterwards
the same test compares the live thumbs of the champion with those of the former one. If they are
worse, the former one comes back by itself. These votes are of different days, so a change of the
pictures counts too.

A run may be stopped at any moment. A version appears by one rename, and it answers only once an
alias names it. Two learners of one model exclude each other by a lock.

## One session

Turned digits (45 degrees) at a service on SQLite: 400 answers, each with a thumb up by one of twelve
users, or with the right label where it was wrong. `tests/e2e/test_learning.py` carries out the same
steps.

    $ python -m models learn mnist/lenet
    version 5: promoted (home passed: +0.00 points on 5999 validation images, at least -0.08 (limit -0.10); stream passed: +17.50 to +17.50 points on 80 later votes, of which 21 have a label)

Of 200 other turned digits, version 4 answered 67.5 % rightly, and version 5, which the service
then served, 85.5 %. After `POST /api/mnist/lenet/rollback` it was 67.5 % again. The learner took 93
seconds, and 84 seconds of processor time, on one thread of a slow, busy computer (an EPYC without
AVX-512) with `KERAS_BACKEND=torch`. Imports, measuring and the export to ONNX are part of that. The
store had 709 KB, and model.onnx 395 KB.

## Bad votes

- One key (or address, where there are no keys) has at most a tenth of the weight of all votes.
- A key that contradicts admins' labels of the same pictures counts less, down to nothing.
- No finding of a gate may rest on one key: it must also hold without any single one.
- The weights move at most a fixed distance, and always from the published version.

What is not defended against: many keys or addresses of one person who lies in all of them; a
majority of wrong votes; lies about a class that no honest user votes on; an admin who lies; a
liar who prevents a promotion. Pictures that people send on purpose to be voted on teach the
network what they show. Whoever holds a single key for all users has all votes in it: nothing is
promoted then, except by an admin."""

QUESTION = """Simulated users send pictures that are shifted: turned, thick, thin, sheared, noisy. The
published network answers, the users give a thumb, and the network learns from these votes. How much
does it gain on such pictures, how much does it lose at home, and what does metaplasticity add?"""

TABLES = """The tables show test accuracies in %, as mean (standard deviation) over the seeds. "Of the
gain by labels" is the rise on shifted pictures, as a share of the rise with the right label for each
picture (with home images where the learner has them). "Home" is the test set as it is. The last
interval is the paired difference from plain votes, by Student's t distribution. Processor time is
that of learning alone."""

METHOD = """Pictures for votes are drawn from the validation split, which the published network has not
learned from, and shifted as the network's own input: not through HTTP. The test set is read for the
reported trials alone.

The strengths of the rules were chosen before, on other shifts (turned by -40 degrees; thicker by
3 x 3 pixels and turned by 20), other seeds and validation images, by the mean of the accuracies on
shifted pictures and at home. Learning rate, steps, the weight of the home term and that of the
entropy are those of the service. They were chosen by hand on the same shifts and validation images:
the home term so that the home gate passes. A network that estimates rewards has a learning rate and
a home term of its own: at the rate of the others it learns less and loses more at home.

Under "500 votes" the number of steps is the same. Under two shifts in turn, the network learns the
second one from where the first one left it; the learner of the service would start again from the
published version with all votes. Synaptic Intelligence measures importance on 10,000 training
images beforehand, because the steps of the published training are over."""

NOT_PLANNED = (
    "- Not planned in this study: pictures by another hand, votes through HTTP, 100 votes, and Tiny "
    "ImageNet."
)
