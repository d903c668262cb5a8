"""scikit-learn's MLPClassifier and MLPRegressor, trained by this package.

classifier, regressor   the two classes
perceptron    what they share: validation, fit, fitted attributes
parameters    the accepted values of parameters, and the layers they describe
inputs        what callers pass as X and y → arrays of the host, and results → the caller's kind of array
problem       targets, loss and predictions of one class
solvers       scikit-learn's update rules, and the optimizer that the parameters describe
device        which backend trains how large a problem
trained       the network of a fitted estimator, its initial weights, and its pickle
stochastic    training by minibatches
convergence   when the training stops, and the attributes that record it
lbfgs         training by L-BFGS on the vector of all parameters

scikit-learn is imported when one of the two classes is first asked for.
"""
