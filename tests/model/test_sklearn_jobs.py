"""The scikit-learn classifier as one job among others: in joblib's processes and threads, and in a Dask cluster."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import numpy as np
import pytest

pytest.importorskip("sklearn", reason="tests the scikit-learn classifier; pip install scikit-learn")

import joblib
from sklearn.model_selection import GridSearchCV

from gpunet import threads
from gpunet.engines.reference import ReferenceEngine
from gpunet.sklearn import MLPClassifier

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

CORES = 3  # that a computation would take


@contextlib.contextmanager
def watched(seen: list[int]) -> Iterator[None]:
    """seen: how many threads each epoch and prediction of a process may use."""
    train, predict = ReferenceEngine.train_epoch, ReferenceEngine.predict

    def note(function: Any) -> Any:
        return lambda *arguments: (seen.append(threads.count()), function(*arguments))[1]

    with (
        mock.patch.object(threads, "_count", return_value=CORES),
        mock.patch.object(ReferenceEngine, "train_epoch", note(train)),
        mock.patch.object(ReferenceEngine, "predict", note(predict)),
    ):
        yield


def fit_and_predict(x: np.ndarray, y: np.ndarray) -> None:
    MLPClassifier(4, max_iter=2, random_state=0, engine="reference").fit(x, y).predict(x)


def job(x: np.ndarray, y: np.ndarray) -> list[int]:
    """A job for a separate process."""
    seen: list[int] = []
    with watched(seen):
        fit_and_predict(x, y)
    return seen


def search(n_jobs: int | None) -> GridSearchCV:
    classifier = MLPClassifier(4, max_iter=5, random_state=0, batch_size=10)
    return GridSearchCV(classifier, {"learning_rate_init": [1e-4, 0.003, 0.03]}, cv=2, n_jobs=n_jobs)


def assert_same_search(one: GridSearchCV, other: GridSearchCV) -> None:
    assert one.best_params_ == other.best_params_
    np.testing.assert_array_equal(one.cv_results_["mean_test_score"], other.cv_results_["mean_test_score"])
    np.testing.assert_array_equal(one.best_estimator_.coefs_[0], other.best_estimator_.coefs_[0])


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    distributed = pytest.importorskip("distributed", reason="starts a local Dask cluster; pip install distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=2, dashboard_address=None) as local,
        distributed.Client(local) as client,
    ):
        yield client


def test_alone_it_uses_all_cores(blobs) -> None:
    assert set(job(*blobs)) == {CORES}
    for n_jobs in (None, 1):  # joblib runs them one after another
        assert [set(seen) for seen in joblib.Parallel(n_jobs)([joblib.delayed(job)(*blobs)] * 2)] == [{CORES}] * 2


def test_a_joblib_process_uses_one_thread(blobs) -> None:
    assert [set(seen) for seen in joblib.Parallel(2)([joblib.delayed(job)(*blobs)] * 2)] == [{1}] * 2


def test_a_joblib_thread_uses_one_thread(blobs) -> None:
    seen: list[int] = []
    with watched(seen):
        joblib.Parallel(2, backend="threading")([joblib.delayed(fit_and_predict)(*blobs)] * 2)
        assert set(seen) == {1}
        assert threads.count() == CORES


def test_a_dask_worker_uses_one_thread(blobs, cluster) -> None:
    with joblib.parallel_config(backend="dask"):
        seen = joblib.Parallel(n_jobs=4)([joblib.delayed(job)(*blobs)])
    assert [set(one) for one in seen] == [{1}]
    assert set(cluster.submit(job, *blobs).result()) == {1}
    assert set(job(*blobs)) == {CORES}  # here, where the cluster's client is, and no worker


def test_a_search_finds_the_same_with_joblib_and_on_a_dask_cluster(blobs, cluster) -> None:
    alone, in_processes, on_dask = search(None), search(2), search(-1)
    alone.fit(*blobs)
    in_processes.fit(*blobs)
    with joblib.parallel_config(backend="dask"):
        on_dask.fit(*blobs)
    assert_same_search(in_processes, alone)
    assert_same_search(on_dask, alone)
